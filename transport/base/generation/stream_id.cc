#include "transport/base/generation/stream_id.h"

#include <iomanip>
#include <sstream>

namespace shoal {

std::ostream& operator<<(std::ostream& out, const StreamId& id) {
  std::ostringstream digits;
  digits << std::hex << std::setfill('0') << std::setw(16) << id.high << std::setw(16) << id.low;
  return out << digits.str();
}

}  // namespace shoal
