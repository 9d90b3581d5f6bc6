// What /proc/meminfo says, and what is no such line.

#include "transport/base/host/memory.h"

#include <gtest/gtest.h>

#include "transport/base/error.h"

namespace shoal {
namespace {

TEST(ParseMemoryBytes, ReadsTheKernelsLine) {
  const char* const text = "MemTotal: 9 kB\nMemAvailable:   24 kB\nLowMemTotal: 1 kB\n";
  EXPECT_EQ(ParseMemoryBytes(text, kMemoryAvailable), 24 * 1024);
  EXPECT_EQ(ParseMemoryBytes(text, kMemoryTotal), 9 * 1024);
  EXPECT_THROW(ParseMemoryBytes("MemTotal: 9 kB\n", kMemoryAvailable), Error);
  EXPECT_THROW(ParseMemoryBytes("LowMemTotal: 9 kB\n", kMemoryTotal), Error);
  EXPECT_THROW(ParseMemoryBytes("MemTotal: much\n", kMemoryTotal), Error);
}

TEST(MemoryBytes, FindsLessAvailableThanThereIs) {
  EXPECT_GT(MemoryBytes(kMemoryAvailable), 0);
  EXPECT_LT(MemoryBytes(kMemoryAvailable), MemoryBytes(kMemoryTotal));
}

}  // namespace
}  // namespace shoal
