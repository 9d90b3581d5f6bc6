#include "parallel/model/files/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "parallel/model/config/json_fields.h"
#include "parallel/model/files/byte_reader.h"
#include "parallel/model/files/refuse.h"
#include "parallel/model/tensor_layout.h"

// A length, a JSON header, and then the data, without holes.

namespace shoal::model {
namespace {

using nlohmann::json;

struct Entry {
  Tensor tensor;
  uint64_t begin = 0;
  uint64_t end = 0;
};

[[noreturn]] void RefuseEntry(const std::string& where, std::string_view name,
                              std::string_view problem) {
  Refuse(where, "tensor ", Quoted(name), " ", problem, ": the file is damaged, fetch it again");
}

DType ReadDType(const json& description, std::string_view name, const std::string& where) {
  const auto found = description.find("dtype");
  if (found == description.end() || !found->is_string()) {
    RefuseEntry(where, name, "has no dtype in the header");
  }
  const auto& text = found->get_ref<const std::string&>();
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    if (text == ToString(dtype)) {
      return dtype;
    }
  }
  Refuse(where, "tensor ", Quoted(name), " has the dtype ", Quoted(text),
         "; supported are F32, F16 and BF16: convert the model to one of these");
}

// The header's numbers are taken only if the parser saw plain non-negative integers.
std::vector<uint64_t> ReadNumbers(const json& description, const char* key, std::string_view name,
                                  const std::string& where) {
  const auto found = description.find(key);
  const bool valid = found != description.end() && found->is_array() &&
                     std::all_of(found->begin(), found->end(),
                                 [](const json& number) { return number.is_number_unsigned(); });
  if (!valid) {
    RefuseEntry(where, name, Str("needs ", key, " as an array of non-negative integers"));
  }
  return found->get<std::vector<uint64_t>>();
}

Entry ReadEntry(const std::string& name, const json& description, const std::string& where) {
  if (!description.is_object()) {
    RefuseEntry(where, name, "has no description in the header");
  }
  for (const auto& [key, value] : description.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      RefuseEntry(where, name, Str("has the unknown key ", Quoted(key), " in the header"));
    }
  }
  const DType dtype = ReadDType(description, name, where);
  const std::vector<uint64_t> shape = ReadNumbers(description, "shape", name, where);
  const std::vector<uint64_t> offsets = ReadNumbers(description, "data_offsets", name, where);
  if (shape.empty() || shape.size() > 2) {
    Refuse(where, "tensor ", Quoted(name), " has ", shape.size(),
           " dimensions; the llama family has only vectors and matrices: take another model");
  }
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    RefuseEntry(where, name, "needs data_offsets [begin, end) in the header");
  }
  Entry entry{MakeTensor(name, dtype, shape.size() == 2 ? shape[0] : 1, shape.back(), where),
              offsets[0], offsets[1]};
  if (entry.end - entry.begin != static_cast<uint64_t>(entry.tensor.bytes())) {
    RefuseEntry(where, name,
                Str("has data of ", entry.end - entry.begin, " bytes, its shape needs ",
                    entry.tensor.bytes()));
  }
  return entry;
}

// Points the entries at `data`, which starts `data_offset` bytes into the file.
void Place(std::vector<Entry>& entries, std::span<const std::byte> data, uint64_t data_offset,
           const std::string& where) {
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.begin < b.begin; });
  uint64_t expected = 0;
  for (Entry& entry : entries) {
    if (entry.begin != expected) {
      RefuseEntry(
          where, entry.tensor.name,
          Str(entry.begin < expected ? "overlaps" : "leaves a hole after",
              " the tensor before it: it starts at ", entry.begin, ", expected ", expected));
    }
    expected = entry.end;
    PlaceTensor(entry.tensor, data, entry.begin, where);
    const auto number_bytes = static_cast<uint64_t>(BlockBytes(entry.tensor.dtype));
    if ((data_offset + entry.begin) % number_bytes != 0) {
      Refuse(where, "tensor ", Quoted(entry.tensor.name), " starts at byte ",
             data_offset + entry.begin, ", no multiple of its numbers' ", number_bytes,
             " bytes: save the model again with the safetensors library");
    }
  }
  if (expected != data.size()) {
    Refuse(where, "the tensors end at data byte ", expected, ", the file has ", data.size(),
           " bytes of data: it is damaged, fetch it again");
  }
}

}  // namespace

std::vector<Tensor> ParseSafetensors(std::span<const std::byte> bytes, const std::string& where,
                                     uint64_t header_bytes_max) {
  ByteReader reader(bytes, where);
  const auto header_bytes = reader.Read<uint64_t>("the header's length");
  if (header_bytes > header_bytes_max) {
    Refuse(where, "the header is said to have ", header_bytes, " bytes, at most ", header_bytes_max,
           " are read: this is no safetensors file, or a damaged one");
  }
  if (header_bytes > reader.bytes_left()) {
    Refuse(where, "truncated: the header needs ", header_bytes, " bytes, the file has ",
           reader.bytes_left(), " more: fetch it again");
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + reader.offset(),
                              header_bytes);
  const json header = ParseJsonObject(text, where + ", header");
  const uint64_t data_offset = reader.offset() + header_bytes;
  std::vector<Entry> entries;
  entries.reserve(header.size());
  for (const auto& [name, description] : header.items()) {
    if (name != "__metadata__") {
      entries.push_back(ReadEntry(name, description, where));
    }
  }
  Place(entries, bytes.subspan(data_offset), data_offset, where);
  std::vector<Tensor> tensors;
  tensors.reserve(entries.size());
  for (Entry& entry : entries) {
    tensors.push_back(std::move(entry.tensor));
  }
  return tensors;
}

}  // namespace shoal::model
