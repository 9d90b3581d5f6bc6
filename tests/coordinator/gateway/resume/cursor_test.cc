// Cursors: what is given out comes back whole, and nothing else is taken for one.

#include "coordinator/gateway/resume/cursor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "coordinator/gateway/resume/cursor_key.h"
#include "coordinator/gateway/resume/request_digest.h"
#include "tests/support/every_field.h"
#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

std::string Key(char c = 'k') { return std::string(kCursorKeyBytes, c); }

Cursor Example() {
  return {.created = 1'800'000'000,
          .answer = {~uint64_t{0}, 7},
          .door = CursorDoor::kChat,
          .usage_written = true,
          .done = true,
          .recomputing = true,
          .seed = uint64_t{1} << 63,
          .kv_cache_tokens = 123'456,
          .request = DigestText("request"),
          .model = DigestText("model"),
          .numerics_id = "0123456789abcdef0123456789abcdef",
          .choices = {{.units = 0},
                      {.units = 127},
                      {.units = int64_t{1} << 40},
                      {.ended = true, .completion_tokens = 64, .cached_tokens = 3, .resumes = 1}}};
}

BusyReason ReasonOf(const std::variant<Cursor, StreamError>& decoded) {
  const auto* error = std::get_if<StreamError>(&decoded);
  EXPECT_NE(error, nullptr) << "it was taken";
  return error == nullptr ? BusyReason::kQueueFull : error->reason;
}

TEST(Cursor, ComesBackWhole) {
  const CursorCodec codec(Key());
  Cursor many = Example();
  many.choices.assign(kResumableSequencesMax, many.choices.back());
  for (const Cursor& cursor : {Example(), Cursor(), many}) {
    const std::string text = codec.Encode(cursor);
    EXPECT_EQ(
        text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
        std::string::npos);
    EXPECT_LE(text.size(), kCursorTextBytesMax);
    const auto decoded = codec.Decode(text, cursor.created);
    ASSERT_TRUE(std::holds_alternative<Cursor>(decoded));
    EXPECT_EQ(std::get<Cursor>(decoded), cursor);
  }
  EXPECT_LT(codec.Encode(Example()).size(), 256U) << "each event carries one";
}

TEST(Cursor, IsRefusedWithAnyBitFlipped) {
  const CursorCodec codec(Key());
  const std::string text = codec.Encode(Example());
  for (size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = text;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      EXPECT_EQ(ReasonOf(codec.Decode(flipped, 0)), BusyReason::kCursorInvalid) << i << ":" << bit;
    }
  }
}

TEST(Cursor, IsRefusedCutOrLengthened) {
  const CursorCodec codec(Key());
  const std::string text = codec.Encode(Example());
  for (size_t size = 0; size < text.size(); ++size) {
    EXPECT_EQ(ReasonOf(codec.Decode(text.substr(0, size), 0)), BusyReason::kCursorInvalid);
    EXPECT_EQ(ReasonOf(codec.Decode(text.substr(size + 1), 0)), BusyReason::kCursorInvalid);
  }
  for (const std::string more : {"A", "AA", "=", " ", "\n"}) {
    EXPECT_EQ(ReasonOf(codec.Decode(text + more, 0)), BusyReason::kCursorInvalid);
    EXPECT_EQ(ReasonOf(codec.Decode(more + text, 0)), BusyReason::kCursorInvalid);
  }
  EXPECT_EQ(ReasonOf(codec.Decode(std::string(1 << 20, 'A'), 0)), BusyReason::kCursorInvalid);
}

TEST(Cursor, IsRefusedUnderAnotherKey) {
  const std::string text = CursorCodec(Key()).Encode(Example());
  EXPECT_EQ(ReasonOf(CursorCodec(Key('x')).Decode(text, 0)), BusyReason::kCursorInvalid);
}

TEST(Cursor, HoldsForADay) {
  const CursorCodec codec(Key());
  const Cursor cursor = Example();
  const std::string text = codec.Encode(cursor);
  for (const int64_t now : {int64_t{0}, cursor.created, cursor.created + kCursorSeconds}) {
    EXPECT_TRUE(std::holds_alternative<Cursor>(codec.Decode(text, now))) << now;
  }
  EXPECT_EQ(ReasonOf(codec.Decode(text, cursor.created + kCursorSeconds + 1)),
            BusyReason::kCursorExpired);
}

TEST(Cursor, NamesWhatItDoesNotFit) {
  const Cursor cursor = Example();
  const auto find = [&](CursorDoor door, const Digest& model, const Digest& request, size_t count) {
    return FindMismatch(cursor, door, model, request, count);
  };
  EXPECT_EQ(find(CursorDoor::kChat, cursor.model, cursor.request, 4), "");
  EXPECT_THAT(find(CursorDoor::kRpc, cursor.model, cursor.request, 4), HasSubstr("the RPC port"));
  EXPECT_THAT(find(CursorDoor::kChat, cursor.request, cursor.request, 4),
              HasSubstr("another model"));
  EXPECT_THAT(find(CursorDoor::kChat, cursor.model, cursor.model, 4), HasSubstr("another request"));
  EXPECT_THAT(find(CursorDoor::kChat, cursor.model, cursor.request, 3),
              HasSubstr("another request"));
}

// Each parameter by itself.
TEST(RequestDigest, DependsOnEveryParameter) {
  const GenerationParams plain;
  const std::vector<int32_t> prompt = {1, 2};
  std::vector<Digest> digests = {
      DigestRequest(prompt, plain, false, ""), DigestRequest(prompt, plain, true, ""),
      DigestRequest({1, 2, 3}, plain, false, ""), DigestRequest(prompt, plain, false, "a"),
      DigestRequest(prompt, plain, false, "b")};
  const GenerationParams set = test::EveryFieldSet();
  const auto add = [&](auto change) {
    GenerationParams params;
    change(params);
    digests.push_back(DigestRequest(prompt, params, false, ""));
  };
  ForEachField(set, [&](const ParamField& field, const auto& value) {
    if constexpr (std::is_same_v<decltype(value), const SamplingParams&>) {
      ForEachField(value, [&](const ParamField& inner, const auto& one) {
        add([&](GenerationParams& params) {
          ForEachField(params.sampling, [&](const ParamField& other, auto& to) {
            if constexpr (std::is_same_v<std::decay_t<decltype(to)>, std::decay_t<decltype(one)>>) {
              if (other.name == inner.name) to = one;
            }
          });
        });
      });
    } else {
      add([&](GenerationParams& params) {
        ForEachField(params, [&](const ParamField& other, auto& to) {
          if constexpr (std::is_same_v<std::decay_t<decltype(to)>, std::decay_t<decltype(value)>>) {
            if (other.name == field.name) to = value;
          }
        });
      });
    }
  });
  ASSERT_GT(digests.size(), 20U);
  for (size_t i = 0; i < digests.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_NE(digests[i], digests[j]) << i << " and " << j;
  }
}

class CursorKey : public ::testing::Test {
 protected:
  CursorKey() : folder_(fs::path(::testing::TempDir()) / Str("cursor_key_", getpid())) {
    fs::remove_all(folder_);
  }
  ~CursorKey() override { fs::remove_all(folder_); }

  std::string path() const { return folder_ / "cursor.key"; }
  std::string Load() { return LoadCursorKey(folder_); }
  std::string Refusal() {
    try {
      Load();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "taken";
  }

  const fs::path folder_;
};

TEST_F(CursorKey, IsMadeOnceForItsOwnerAlone) {
  const std::string key = Load();
  EXPECT_EQ(key.size(), kCursorKeyBytes);
  EXPECT_EQ(Load(), key);
  struct stat about {};
  ASSERT_EQ(stat(path().c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0600U);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "nothing else is left";
  fs::remove(path());
  EXPECT_NE(Load(), key);
}

TEST_F(CursorKey, IsRefusedWhereOthersCanReadIt) {
  Load();
  chmod(path().c_str(), 0640);
  EXPECT_THAT(Refusal(), HasSubstr("expected mode 600"));
  EXPECT_THAT(Refusal(), HasSubstr(path()));
}

TEST_F(CursorKey, IsRefusedInAnotherSize) {
  Load();
  for (const size_t size : {0, 31, 33, 100'000}) {
    std::ofstream(path(), std::ios::trunc) << std::string(size, 'a');
    EXPECT_THAT(Refusal(), HasSubstr(Str("expected 32 bytes, found ", size)));
  }
}

TEST_F(CursorKey, IsRefusedWhereItIsNoFileOfItsOwn) {
  fs::create_directories(folder_ / "cursor.key");
  EXPECT_THAT(Refusal(), HasSubstr("expected a regular file"));
  fs::remove(path());
  fs::create_symlink("/dev/zero", path());
  EXPECT_THAT(Refusal(), HasSubstr(path()));
}

TEST_F(CursorKey, MayBeInAFolderBehindALink) {
  const fs::path other = folder_.string() + "_other";
  fs::create_directories(other);
  fs::create_directory_symlink(other, folder_);
  EXPECT_EQ(Load().size(), kCursorKeyBytes);
  EXPECT_TRUE(fs::exists(other / "cursor.key"));
  fs::remove_all(other);
}

TEST_F(CursorKey, IsRefusedIfItIsAnotherUsers) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  Load();
  ASSERT_EQ(chown(path().c_str(), 12'345, static_cast<gid_t>(-1)), 0);
  EXPECT_THAT(Refusal(), HasSubstr("user 12345's"));
}

TEST_F(CursorKey, NamesAFolderThatCannotBeMade) {
  std::ofstream(folder_) << "a file";
  EXPECT_THAT(Refusal(), HasSubstr(folder_.string()));
}

}  // namespace
}  // namespace shoal::gateway
