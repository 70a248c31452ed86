#include "cli/child_process.h"

#include "base/clock.h"
#include "base/unique_fd.h"
#include "hardware/text_file.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif

#include <array>
#include <cerrno>
#include <cstdio>

namespace hypura::cli {
namespace {

constexpr int kNoSuchProgram = 127;  // as shells say it
constexpr int kNoCage = 126;

struct Pipe {
    UniqueFd read_end, write_end;
};

Result<Pipe> make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return std::unexpected(error_from_errno(errno, "make", "a pipe"));
    return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

struct Pipes {
    Pipe in, out, err;
};

// In the child, between fork and exec: only what is safe there.
[[noreturn]] void become(const ChildSpec& spec, char* const* arguments, const Pipes& pipes) {
#ifdef __linux__
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    if (!spec.cage_entrance.empty()) {
        const int entrance = ::open(spec.cage_entrance.c_str(), O_WRONLY | O_CLOEXEC);
        if (entrance < 0 || ::write(entrance, "0", 1) != 1) ::_exit(kNoCage);
    }
    ::dup2(pipes.in.read_end.get(), STDIN_FILENO);
    ::dup2(pipes.out.write_end.get(), STDOUT_FILENO);
    ::dup2(pipes.err.write_end.get(), STDERR_FILENO);
    ::execvp(arguments[0], arguments);
    ::_exit(kNoSuchProgram);
}

// One of the child's outputs: kept whole, and shown line by line.
struct Output {
    ChildStream stream;
    UniqueFd fd;
    std::string& text;
    size_t shown = 0;

    // False at the end of the output.
    bool read_some(const ChildSpec& spec, pid_t child) {
        std::array<char, 65536> block{};
        const ssize_t got = ::read(fd.get(), block.data(), block.size());
        if (got < 0 && errno == EINTR) return true;
        if (got <= 0) return false;
        text.append(block.data(), static_cast<size_t>(got));
        for (size_t end = 0; (end = text.find('\n', shown)) != std::string::npos; shown = end + 1)
            if (spec.on_line) spec.on_line(child, stream, std::string_view(text).substr(shown, end - shown));
        return true;
    }
};

void read_outputs(const ChildSpec& spec, pid_t child, std::array<Output, 2>& outputs) {
    std::array<pollfd, 2> waiting{};
    for (size_t i = 0; i < 2; ++i) waiting[i] = {outputs[i].fd.get(), POLLIN, 0};
    while (waiting[0].fd >= 0 || waiting[1].fd >= 0) {
        if (::poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) return;
        for (size_t i = 0; i < 2; ++i)
            if (waiting[i].fd >= 0 && waiting[i].revents != 0 && !outputs[i].read_some(spec, child)) waiting[i].fd = -1;
    }
}

// Short inputs fit the pipe; a program that does not read its input is its own business.
void write_input(const UniqueFd& fd, const std::string& input) {
    for (size_t done = 0; done < input.size();) {
        const ssize_t written = ::write(fd.get(), input.data() + done, input.size() - done);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return;
        done += static_cast<size_t>(written);
    }
}

int64_t as_us(const timeval& time) { return time.tv_sec * int64_t{1'000'000} + time.tv_usec; }

Status reap(pid_t child, ChildResult& result) {
    int status = 0;
    rusage usage{};
    while (::wait4(child, &status, 0, &usage) < 0)
        if (errno != EINTR) return std::unexpected(error_from_errno(errno, "wait for", "a program"));
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    result.user_us = as_us(usage.ru_utime);
    result.system_us = as_us(usage.ru_stime);
    result.read_bytes = static_cast<uint64_t>(usage.ru_inblock) * 512;
    result.minor_faults = static_cast<uint64_t>(usage.ru_minflt);
    result.major_faults = static_cast<uint64_t>(usage.ru_majflt);
    return {};
}

std::vector<char*> as_argv(const std::vector<std::string>& arguments) {
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    return argv;
}

}  // namespace

Result<ChildResult> run_child(const ChildSpec& spec) {
    Pipes pipes;
    for (Pipe* pipe : {&pipes.in, &pipes.out, &pipes.err}) {
        HYPURA_ASSIGN(*pipe, make_pipe());
    }
    const std::vector<char*> argv = as_argv(spec.arguments);
    const int64_t begin_us = now_us();
    const pid_t child = ::fork();
    if (child < 0) return std::unexpected(error_from_errno(errno, "start", spec.arguments[0]));
    if (child == 0) become(spec, argv.data(), pipes);
    for (UniqueFd* end : {&pipes.in.read_end, &pipes.out.write_end, &pipes.err.write_end}) *end = UniqueFd();
    ::signal(SIGPIPE, SIG_IGN);
    write_input(pipes.in.write_end, spec.input);
    pipes.in.write_end = UniqueFd();
    ChildResult result;
    std::array<Output, 2> outputs = {Output{ChildStream::kOut, std::move(pipes.out.read_end), result.out},
                                     Output{ChildStream::kErr, std::move(pipes.err.read_end), result.err}};
    read_outputs(spec, child, outputs);
    HYPURA_TRY(reap(child, result));
    result.wall_us = now_us() - begin_us;
    if (result.exit_code == kNoSuchProgram) return fail(ErrorCode::kNotFound, "{}: no such program", spec.arguments[0]);
    if (result.exit_code == kNoCage && !spec.cage_entrance.empty())
        return fail(ErrorCode::kUnsupportedHost, "{}: a program cannot enter this control group", spec.cage_entrance);
    return result;
}

ProcessCost cost_of(pid_t process) {
    const std::string folder = std::format("/proc/{}/", process);
    ProcessCost cost;
    const std::string io = hardware::read_text(folder + "io").value_or("");
    cost.read_bytes = hardware::keyed_number(io, "read_bytes").value_or(0);
    const std::string stat = hardware::read_text(folder + "stat").value_or("");
    const size_t name_end = stat.rfind(") ");
    if (name_end == std::string::npos) return cost;
    const auto fields = hardware::split(std::string_view(stat).substr(name_end + 2), ' ');
    const auto field = [&](size_t number) {  // as numbered in proc(5); the first here is 3
        return number - 3 < fields.size() ? hardware::leading_number(fields[number - 3]).value_or(0) : 0;
    };
    const auto tick_us = static_cast<int64_t>(1'000'000 / ::sysconf(_SC_CLK_TCK));
    cost.minor_faults = field(10);
    cost.major_faults = field(12);
    cost.user_us = static_cast<int64_t>(field(14)) * tick_us;
    cost.system_us = static_cast<int64_t>(field(15)) * tick_us;
    return cost;
}

ProcessCost operator-(const ProcessCost& after, const ProcessCost& before) {
    return {after.read_bytes - before.read_bytes, after.minor_faults - before.minor_faults,
            after.major_faults - before.major_faults, after.user_us - before.user_us,
            after.system_us - before.system_us};
}

}  // namespace hypura::cli
