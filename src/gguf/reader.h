// Parses the header of one GGUF file: metadata, then the directory of its tensors. model_file.h joins split files.
#pragma once

#include "base/status.h"
#include "gguf/cursor.h"
#include "gguf/model_file.h"

#include <cstdint>
#include <vector>

namespace hypura::gguf {

struct Header {
    Metadata metadata;
    std::vector<TensorInfo> tensors;  // in file order, part 0
    uint64_t data_offset = 0;         // first byte after the header and its padding
};

// Everything that is returned was checked: tensors lie inside the source, aligned, apart from each other, named once.
Result<Header> read_header(const ByteSource& source);

}  // namespace hypura::gguf
