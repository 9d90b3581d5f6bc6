#pragma once

// The callable and loop objects that expressions meet.

#include <cstdint>
#include <string>

#include "parallel/text/jinja/evaluator.h"
#include "parallel/text/jinja/syntax/ast.h"
#include "parallel/text/jinja/value.h"

namespace shoal::text::jinja {

struct MacroObject : Object {
  MacroObject(const Stmt& statement, Scope* scope) : macro(statement), definition(scope) {}
  const char* type_name() const override { return "Macro"; }
  bool callable() const override { return true; }

  const Stmt& macro;
  Scope* const definition;
};

struct FunctionObject : Object {
  explicit FunctionObject(std::string function) : name(std::move(function)) {}
  const char* type_name() const override { return "function"; }
  bool callable() const override { return true; }

  const std::string name;
};

struct MethodObject : Object {
  MethodObject(Value of, std::string method) : self(std::move(of)), name(std::move(method)) {}
  const char* type_name() const override { return "method"; }
  bool callable() const override { return true; }
  int depth() const override { return self.depth() + 1; }

  const Value self;
  const std::string name;
};

struct LoopObject : Object {
  LoopObject(const Value& all, int64_t position, int64_t level)
      : items(all), index(position), nesting(level) {}
  const char* type_name() const override { return "LoopContext"; }
  int depth() const override { return items.depth() + 1; }

  const Value items;
  const int64_t index;
  const int64_t nesting;
};

}  // namespace shoal::text::jinja
