// A manifest is read as it was written, or refused by name.

#include "parallel/model/files/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/parallel/model/refusal.h"
#include "tests/support/scratch_folder.h"
#include "transport/base/check.h"

namespace shoal::model {
namespace {

using ::testing::HasSubstr;

const std::string kIdA(32, 'a');
const std::string kIdB(32, 'b');
const std::string kDigest(32, '1');

Manifest Written() {
  return {.model = "small",
          .canaries = {{.numerics_id = kIdA, .kv_dtype = "f16", .digest = kDigest},
                       {.numerics_id = kIdB, .kv_dtype = "int8", .digest = kIdA}}};
}

class ManifestTest : public ::testing::Test {
 protected:
  std::string Path() const { return folder_.path() + "/m.gguf.manifest.json"; }
  std::string Text() const {
    std::ifstream file(Path());
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  // What is said of a file with this text.
  std::string Refusal(const std::string& text) const {
    std::ofstream(Path()) << text;
    return test::RefusalOf([&] { static_cast<void>(ReadManifest(Path())); });
  }
  // Of what is written, with one thing replaced.
  std::string RefusalWith(const std::string& from, const std::string& to) const {
    WriteManifest(Path(), Written());
    std::string text = Text();
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return Refusal(text.replace(at, from.size(), to));
  }

  test::ScratchFolder folder_;
};

TEST_F(ManifestTest, IsBesideAFileAndInsideAFolder) {
  EXPECT_EQ(ManifestPath("some/m.gguf"), "some/m.gguf.manifest.json");
  EXPECT_EQ(ManifestPath(folder_.path()), folder_.path() + "/shoal-manifest.json");
  EXPECT_EQ(ManifestPath(folder_.path() + "/"), folder_.path() + "/shoal-manifest.json");
}

TEST_F(ManifestTest, IsReadAsItWasWrittenAndReplacedWhole) {
  EXPECT_EQ(ReadManifest(Path()), std::nullopt);
  WriteManifest(Path(), {.model = "other", .canaries = {}});
  WriteManifest(Path(), Written());
  const std::optional<Manifest> read = ReadManifest(Path());
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(*read, Written());
  EXPECT_EQ(read->Find(kIdB)->digest, kIdA);
  EXPECT_EQ(read->Find(kDigest), nullptr);
  const auto files = std::filesystem::directory_iterator(folder_.path());
  EXPECT_EQ(std::distance(begin(files), end(files)), 1) << "nothing else is left";
}

TEST_F(ManifestTest, IsRefusedByNameIfItIsDamaged) {
  EXPECT_THAT(Refusal(""), HasSubstr("m.gguf.manifest.json: is not JSON"));
  WriteManifest(Path(), Written());
  const std::string whole = Text();
  for (const size_t size : {whole.size() / 3, whole.size() / 2, whole.size() - 3}) {
    EXPECT_THAT(Refusal(whole.substr(0, size)), HasSubstr("is not JSON"));
  }
  EXPECT_THAT(Refusal("[1]"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(Refusal(std::string((1 << 20) + 1, ' ')), HasSubstr("larger than 1048576 bytes"));
  EXPECT_THAT(RefusalWith("\"shoal-manifest\"", "\"x\""), HasSubstr("expected the format"));
  EXPECT_THAT(RefusalWith("\"version\": 1", "\"version\": 2"),
              HasSubstr("expected version 1, found \"2\""));
  EXPECT_THAT(RefusalWith("\"canaries\"", "\"birds\""), HasSubstr("has no \"canaries\""));
  EXPECT_THAT(RefusalWith("\"model\": \"small\"", "\"model\": 5"), HasSubstr("to be a string"));
  EXPECT_THAT(RefusalWith(kDigest, "1234"), HasSubstr("canary 0: expected \"digest\" to be 32"));
  EXPECT_THAT(RefusalWith(kIdB, std::string(32, 'B')), HasSubstr("canary 1: expected \"numerics"));
  EXPECT_THAT(RefusalWith(kIdB, kIdA), HasSubstr(kIdA + " twice"));
  EXPECT_THAT(RefusalWith("\"kv_dtype\"", "\"kv\""), HasSubstr("canary 0 has no \"kv_dtype\""));
  EXPECT_THAT(Refusal(""), HasSubstr("write it again with `shoal verify MODEL --write`"));
}

TEST_F(ManifestTest, SaysWhereItCannotBeWritten) {
  try {
    WriteManifest(folder_.path() + "/none/m.json", Written());
    ADD_FAILURE() << "written";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFailed);
    EXPECT_THAT(error.what(), HasSubstr("/none/m.json"));
  }
}

}  // namespace
}  // namespace shoal::model
