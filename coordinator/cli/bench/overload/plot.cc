// The plot of an overload benchmark, written as text.

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "coordinator/cli/bench/overload/report.h"

namespace shoal::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kWidth = 640;
constexpr double kHeight = 400;
constexpr double kLeft = 70;
constexpr double kRight = 150;
constexpr double kTop = 30;
constexpr double kBottom = 55;
constexpr const char* kColours[] = {"#1b6ca8", "#c23b22", "#3a7d44", "#7a5195"};

struct Point {
  double offered;
  double goodput;
};
using Lines = std::vector<std::pair<std::string, std::vector<Point>>>;

// In the order of the runs.
Lines SteadyLines(const Json& result) {
  Lines lines;
  for (const Json& run : result["runs"]) {
    if (run["shape"] != "steady" || run["offered_per_second"].get<double>() <= 0) continue;
    const auto arm = run["arm"].get<std::string>();
    auto line = std::ranges::find(lines, arm, &Lines::value_type::first);
    if (line == lines.end()) line = lines.insert(lines.end(), {arm, {}});
    line->second.push_back({run["offered_per_second"], run["goodput_per_second"]});
  }
  std::erase_if(lines, [](const auto& line) { return line.second.size() < 2; });
  for (auto& [arm, points] : lines) std::ranges::sort(points, {}, &Point::offered);
  return lines;
}

// 1, 2 or 5 times a power of ten, so that about five of them make `range`.
double NiceStep(double range) {
  const double power = std::pow(10, std::floor(std::log10(range / 5)));
  for (const double step : {1.0, 2.0, 5.0}) {
    if (range / (step * power) <= 6) return step * power;
  }
  return 10 * power;
}

class Plot {
 public:
  Plot(const Lines& lines, double peak) : lowest_(peak), highest_(peak), top_(peak) {
    for (const auto& [arm, points] : lines) {
      for (const Point& point : points) {
        lowest_ = std::min(lowest_, point.offered);
        highest_ = std::max(highest_, point.offered);
        top_ = std::max(top_, point.goodput);
      }
    }
    lowest_ *= 0.9;
    highest_ *= 1.1;
    top_ *= 1.1;
    out_ << std::fixed << std::setprecision(1);
  }

  std::string Draw(const Lines& lines, double peak) {
    out_ << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << kWidth << "\" height=\""
         << kHeight << "\" viewBox=\"0 0 " << kWidth << ' ' << kHeight
         << "\" font-family=\"sans-serif\" font-size=\"12\">\n"
         << "<title>Goodput over offered load</title>\n"
         << "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
    DrawAxes();
    DrawLine({{lowest_, peak}, {highest_, peak}}, "#888888", " stroke-dasharray=\"4 4\"");
    Text(kWidth - kRight + 6, Y(peak) + 4, "start", "peak");
    size_t number = 0;
    for (const auto& [arm, points] : lines) {
      const char* colour = kColours[number % std::size(kColours)];
      DrawLine(points, colour, "");
      for (const Point& point : points) {
        out_ << "<circle cx=\"" << X(point.offered) << "\" cy=\"" << Y(point.goodput)
             << "\" r=\"4\" fill=\"" << colour << "\"/>\n";
      }
      const double y = kHeight / 2 + 20 * static_cast<double>(number);
      out_ << "<rect x=\"" << kWidth - kRight + 8 << "\" y=\"" << y - 9
           << "\" width=\"12\" height=\"12\" fill=\"" << colour << "\"/>\n";
      Text(kWidth - kRight + 26, y + 2, "start", arm);
      ++number;
    }
    out_ << "</svg>\n";
    return out_.str();
  }

 private:
  double X(double offered) const {
    const double part = std::log(offered / lowest_) / std::log(highest_ / lowest_);
    return kLeft + part * (kWidth - kLeft - kRight);
  }
  double Y(double goodput) const {
    return kHeight - kBottom - goodput / top_ * (kHeight - kTop - kBottom);
  }

  void Text(double x, double y, const char* anchor, const std::string& text) {
    out_ << "<text x=\"" << x << "\" y=\"" << y << "\" text-anchor=\"" << anchor << "\">" << text
         << "</text>\n";
  }

  void DrawLine(const std::vector<Point>& points, const char* colour, const char* style) {
    out_ << "<polyline fill=\"none\" stroke=\"" << colour << "\" stroke-width=\"2\"" << style
         << " points=\"";
    for (const Point& point : points) out_ << X(point.offered) << ',' << Y(point.goodput) << ' ';
    out_ << "\"/>\n";
  }

  void DrawAxes() {
    const double step = NiceStep(top_);
    for (double value = 0; value <= top_; value += step) {
      out_ << "<line x1=\"" << kLeft << "\" y1=\"" << Y(value) << "\" x2=\"" << kWidth - kRight
           << "\" y2=\"" << Y(value) << "\" stroke=\"#dddddd\"/>\n";
      Text(kLeft - 6, Y(value) + 4, "end", Number(value));
    }
    for (double power = std::pow(10, std::floor(std::log10(lowest_))); power <= highest_;
         power *= 10) {
      for (const double step_of_ten : {1.0, 2.0, 5.0}) {
        const double value = power * step_of_ten;
        if (value < lowest_ || value > highest_) continue;
        Text(X(value), kHeight - kBottom + 18, "middle", Number(value));
      }
    }
    Text((kLeft + kWidth - kRight) / 2, kHeight - 12, "middle", "offered requests per second");
    Text(kLeft, kTop - 10, "middle", "good answers per second");
  }

  static std::string Number(double value) {
    std::ostringstream text;
    text << value;
    return text.str();
  }

  double lowest_;
  double highest_;
  double top_;
  std::ostringstream out_;
};

}  // namespace

std::string OverloadPlot(const Json& result) {
  const Lines lines = SteadyLines(result);
  const double peak = std::max(result["peak_per_second"].get<double>(), 0.1);
  return Plot(lines, peak).Draw(lines, peak);
}

}  // namespace shoal::cli
