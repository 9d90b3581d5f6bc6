#pragma once

// What a region remembers of its decisions, as JSON.

#include <string>
#include <vector>

#include "coordinator/gateway/json/json_writer.h"
#include "transport/base/overload/record.h"

namespace shoal::gateway {

// The shortest decimal that reads back as the same number; "null" if not finite.
std::string FormatNumber(double value);

// [{"name","value","source"}]
void WriteFigures(JsonWriter& json, const std::vector<RecordFigure>& figures);

// {"now_unix_ms","oldest_unix_ms","forgotten","more","records":[{"number","unix_ms","kind",
// "stream","request","tenant","class","group","reason","detail","figures"}]}
//
// What a record is not of is null.
std::string RecordsJson(const RecordPage& page);

}  // namespace shoal::gateway
