#include "engine/model_view.h"

#include "base/bytes.h"
#include "engine/mmap_hook.h"
#include "storage/reader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <format>

namespace hypura::engine {
namespace {

Status copy_bytes(const gguf::Part& part, int from, int to, uint64_t bytes) {
    std::vector<char> chunk(kMiB);
    for (uint64_t done = 0; done < bytes;) {
        const uint64_t wanted = std::min<uint64_t>(chunk.size(), bytes - done);
        const ssize_t got = ::pread(from, chunk.data(), wanted, static_cast<off_t>(done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return std::unexpected(error_from_errno(errno, "read the header", part.path));
        if (got == 0) return fail(ErrorCode::kModelChanged, "{}: became shorter while it was being opened", part.path);
        if (::pwrite(to, chunk.data(), static_cast<size_t>(got), static_cast<off_t>(done)) != got)
            return std::unexpected(error_from_errno(errno, "copy the header", part.path));
        done += static_cast<uint64_t>(got);
    }
    return {};
}

// A memory file with the part's header and, beyond it, a hole as long as the part.
Result<UniqueFd> header_file(const gguf::Part& part) {
    UniqueFd source(::open(part.path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!source.valid()) return std::unexpected(error_from_errno(errno, "open", part.path));
    UniqueFd file(::memfd_create("hypura-view", MFD_CLOEXEC));
    if (!file.valid() || ::ftruncate(file.get(), static_cast<off_t>(part.size_bytes)) != 0)
        return std::unexpected(error_from_errno(errno, "make a memory file", "memfd"));
    HYPURA_TRY(copy_bytes(part, source.get(), file.get(), part.data_offset));
    return file;
}

}  // namespace

Result<ModelView> ModelView::create(const gguf::ModelFile& model) {
    ModelView view;
    for (const gguf::Part& part : model.parts) HYPURA_TRY(view.add_part(part));
    return view;
}

ModelView::~ModelView() {
    for (const UniqueFd& file : files_) forget_mapping(file.get());
}

bool ModelView::contains(const void* address) const {
    const auto* const at = static_cast<const std::byte*>(address);
    for (size_t part = 0; part < memory_.size(); ++part)
        if (at >= memory_[part] && at < memory_[part] + sizes_bytes_[part]) return true;
    return false;
}

Status ModelView::add_part(const gguf::Part& part) {
    HYPURA_ASSIGN(UniqueFd file, header_file(part));
    HYPURA_ASSIGN(MemoryRegion memory, MemoryRegion::reserve(part.size_bytes + storage::BlockReader::kSlackBytes));
    memory_.push_back(memory.data());
    sizes_bytes_.push_back(part.size_bytes);
    paths_.push_back(std::format("/proc/self/fd/{}", file.get()));
    answer_mapping_with(file.get(), std::move(memory));
    files_.push_back(std::move(file));
    return {};
}

}  // namespace hypura::engine
