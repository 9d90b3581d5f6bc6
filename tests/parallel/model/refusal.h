#pragma once

// What the model tests share: a small model to break, and the message of its refusal.

#include <gtest/gtest.h>

#include <span>
#include <string>

#include "tests/support/model/model_writer.h"
#include "transport/base/error.h"

namespace shoal::test {

// 1 layer, 2/1 heads of 16, everything as small as the formats allow.
inline ModelSpec SmallSpec() {
  return {.name = "small",
          .dtype = DType::kQ4_0,
          .embedding_dtype = {},
          .layer_count = 1,
          .hidden_dim = 32,
          .head_count = 2,
          .kv_head_count = 1,
          .head_dim = 16,
          .ffn_dim = 64,
          .vocab_size = 64,
          .tokenizer = false,
          .seed = 1};
}

// The message with which `action` refuses its input; empty, and a failed test, if it does not.
template <typename Action>
std::string RefusalOf(Action action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "accepted";
  return "";
}

}  // namespace shoal::test
