// The virtual GGUF that libllama loads: real metadata, and anonymous memory where the tensors would be.
//
// One view for each part of a split model, so that every tensor keeps its file offset: a direct read of file bytes
// [offset, …) can land at memory + offset, aligned alike, without a copy.
#pragma once

#include "base/memory_region.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "gguf/model_file.h"

#include <string>
#include <vector>

namespace hypura::engine {

class ModelView {
public:
    // Copies the header of each part into a memory file and reserves memory for its tensors. Reads no tensor.
    static Result<ModelView> create(const gguf::ModelFile& model);
    ModelView(ModelView&&) noexcept = default;
    ModelView& operator=(ModelView&&) noexcept = default;
    ~ModelView();

    // What to hand to libllama, one path a part, in order. Each may be mapped once; libllama then owns the memory.
    const std::vector<std::string>& paths() const { return paths_; }

    // Whether `address` lies where a tensor of the view would.
    bool contains(const void* address) const;

    // Where file byte 0 of `part` lies. Valid as long as libllama's model lives.
    std::byte* part_memory(uint32_t part) const { return memory_[part]; }

private:
    ModelView() = default;
    Status add_part(const gguf::Part& part);

    std::vector<UniqueFd> files_;
    std::vector<std::string> paths_;
    std::vector<std::byte*> memory_;
    std::vector<uint64_t> sizes_bytes_;
};

}  // namespace hypura::engine
