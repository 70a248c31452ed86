#include "engine/mmap_hook.h"

#include "base/check.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <vector>

// ThreadSanitizer's runtime maps memory, through us, before it can follow anybody's calls.
#define HYPURA_NO_TSAN __attribute__((no_sanitize("thread")))

namespace hypura::engine {
namespace {

struct Answer {
    dev_t device = 0;
    ino_t inode = 0;
    MemoryRegion memory;
};

std::mutex answers_mutex;
std::vector<Answer>& answers() {
    static auto* const all = new std::vector<Answer>;  // outlives every static destructor that may still map
    return *all;
}
// mmap() runs inside malloc: where nothing is registered, it must not take a lock or allocate.
std::atomic<int> answers_waiting{0};

Answer* find_answer(int fd) {
    struct stat found{};
    if (::fstat(fd, &found) != 0) return nullptr;
    for (Answer& answer : answers())
        if (answer.device == found.st_dev && answer.inode == found.st_ino) return &answer;
    return nullptr;
}

MemoryRegion take_answer(int fd) {
    const std::scoped_lock lock(answers_mutex);
    Answer* const answer = find_answer(fd);
    if (answer == nullptr) return {};
    MemoryRegion memory = std::move(answer->memory);
    answers().erase(answers().begin() + (answer - answers().data()));
    answers_waiting.fetch_sub(1);
    return memory;
}

HYPURA_NO_TSAN void* map_file_or_answer(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) {
    if (fd >= 0 && answers_waiting.load() > 0) {
        if (MemoryRegion memory = take_answer(fd); memory.data() != nullptr) {
            HYPURA_CHECK(offset == 0 && bytes <= memory.size_bytes());
            return memory.release();
        }
    }
    return reinterpret_cast<void*>(::syscall(SYS_mmap, address, bytes, protection, flags, fd, offset));
}

}  // namespace

void answer_mapping_with(int fd, MemoryRegion memory) {
    struct stat found{};
    HYPURA_CHECK(::fstat(fd, &found) == 0);
    const std::scoped_lock lock(answers_mutex);
    answers().push_back({found.st_dev, found.st_ino, std::move(memory)});
    answers_waiting.fetch_add(1);
}

void forget_mapping(int fd) { take_answer(fd); }

}  // namespace hypura::engine

extern "C" {
HYPURA_NO_TSAN __attribute__((visibility("default"))) void* mmap(void* address, size_t bytes, int protection, int flags,
                                                                 int fd, off_t offset) noexcept {
    return hypura::engine::map_file_or_answer(address, bytes, protection, flags, fd, offset);
}
HYPURA_NO_TSAN __attribute__((visibility("default"))) void* mmap64(void* address, size_t bytes, int protection,
                                                                   int flags, int fd, off64_t offset) noexcept {
    return hypura::engine::map_file_or_answer(address, bytes, protection, flags, fd, offset);
}
}
