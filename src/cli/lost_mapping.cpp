#include "cli/lost_mapping.h"

#include "base/unique_fd.h"
#include "cli/exit_codes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string_view>

// All of this runs inside a signal handler: system calls and arithmetic, no allocation, no locks, no stdio.
namespace hypura::cli {
namespace {

// The lines of /proc/self/maps, through a buffer of its own.
class Lines {
public:
    explicit Lines(int fd) : fd_(fd) {}

    // Empty at the end. Valid until the next call; ends in a NUL that does not count.
    std::string_view next() {
        std::memmove(buffer_.data(), buffer_.data() + taken_, filled_ - taken_);
        filled_ -= taken_;
        taken_ = 0;
        for (;;) {
            const std::string_view text(buffer_.data(), filled_);
            if (const size_t end = text.find('\n'); end != std::string_view::npos) {
                taken_ = end + 1;
                buffer_[end] = '\0';
                return text.substr(0, end);
            }
            const ssize_t got = ::read(fd_, buffer_.data() + filled_, buffer_.size() - filled_);
            if (got <= 0) return {};
            filled_ += static_cast<size_t>(got);
        }
    }

private:
    int fd_;
    size_t filled_ = 0;
    size_t taken_ = 0;
    std::array<char, 16384> buffer_;
};

uint64_t hexadecimal(std::string_view text) {
    uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value, 16);
    return value;
}

struct Mapped {
    std::string_view path;  // empty: no file
    uint64_t offset = 0;    // of the address in it
};

// "7f00-7f10 r--s 00001000 fe:00 1234   /models/m.gguf"
Mapped mapped_at(std::string_view line, uint64_t address) {
    const size_t dash = line.find('-');
    const size_t permissions = line.find(' ');
    const size_t path = line.find('/');
    if (dash == std::string_view::npos || permissions == std::string_view::npos || path == std::string_view::npos)
        return {};
    const uint64_t begin = hexadecimal(line);
    const uint64_t end = hexadecimal(line.substr(dash + 1));
    if (address < begin || address >= end) return {};
    const uint64_t offset = hexadecimal(line.substr(line.find(' ', permissions + 1) + 1));
    return {line.substr(path), offset + (address - begin)};
}

bool has_byte(const Mapped& mapped) {
    struct stat status{};
    return ::stat(mapped.path.data(), &status) == 0 && mapped.offset < static_cast<uint64_t>(status.st_size);
}

void say(std::initializer_list<std::string_view> texts) {
    for (const std::string_view text : texts) {
        const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
        if (written < 0) return;
    }
}

[[noreturn]] void end_with(ErrorCode code, std::string_view path, std::string_view what) {
    say({"\nhypura: ", path, ": ", what, "\n"});
    ::_exit(exit_code(code));
}

void on_bus_error(int signal, siginfo_t* info, void*) {
    const UniqueFd maps(::open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
    Lines lines(maps.get());
    for (std::string_view line = lines.next(); !line.empty(); line = lines.next()) {
        const Mapped mapped = mapped_at(line, reinterpret_cast<uintptr_t>(info->si_addr));
        if (mapped.path.empty()) continue;
        if (has_byte(mapped)) end_with(ErrorCode::kReadFailed, mapped.path, "its disk failed a read");
        end_with(ErrorCode::kModelChanged, mapped.path,
                 "the file was truncated while it was in use; load the model again once it is complete");
    }
    std::signal(signal, SIG_DFL);  // the instruction is repeated, and ends the program
}

}  // namespace

void explain_lost_mappings() {
    struct sigaction action{};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace hypura::cli
