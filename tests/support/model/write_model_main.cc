// shoal_write_model: the generated models as files, for tests that are not C++ and for benchmarks.

#include <exception>
#include <iostream>
#include <string_view>

#include "tests/support/model/model_writer.h"

namespace {

std::vector<shoal::test::ModelSpec> AllSpecs() {
  std::vector<shoal::test::ModelSpec> specs = shoal::test::MatrixSpecs();
  specs.push_back(shoal::test::Llama1BSpec());
  return specs;
}

}  // namespace

// Prints the path of the model that it wrote.
int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "Usage: shoal_write_model SPEC FOLDER\nSPEC is one of";
    for (const shoal::test::ModelSpec& spec : AllSpecs()) {
      std::cerr << ' ' << spec.name;
    }
    std::cerr << std::endl;
    return 2;
  }
  try {
    for (const shoal::test::ModelSpec& spec : AllSpecs()) {
      if (spec.name != std::string_view(argv[1])) continue;
      std::cout << shoal::test::WriteModel(spec, argv[2]) << std::endl;
      return 0;
    }
    std::cerr << "shoal_write_model: no model " << argv[1] << std::endl;
  } catch (const std::exception& error) {
    std::cerr << "shoal_write_model: " << error.what() << std::endl;
    return 1;
  }
  return 2;
}
