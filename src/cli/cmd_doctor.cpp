// hypura doctor: whether this host is fit for streaming, line by line, and what to change.
#include "base/bytes.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/doctor.h"
#include "engine/machine_probe.h"

#include <CLI/CLI.hpp>

#include <memory>

namespace hypura::cli {
namespace {

struct DoctorFlags {
    std::string path = ".";
    bool json = false;
};

// A moment of reading: enough to see whether direct reads work, not how fast.
storage::DiskProbeOptions glance() { return {.cells = {{65536, 1}}, .cell_us = 1000, .rounds = 1, .file_bytes = kMiB}; }

Status io_uring_status() {
    const auto reader = storage::make_raw_reader({.kind = storage::ReaderKind::kUring});
    if (!reader) return std::unexpected(reader.error());
    return {};
}

Result<HostFacts> look_at_host(const std::string& path) {
    HostFacts facts;
    facts.settings = hardware::host_settings();
    HYPURA_ASSIGN(facts.memory, hardware::memory_limits());
    HYPURA_ASSIGN(facts.disk, hardware::disk_info(path));
    facts.probe = storage::probe_disk(path, glance());
    facts.io_uring = io_uring_status();
    facts.devices = engine::list_devices();
    return facts;
}

Status doctor(const DoctorFlags& flags) {
    HYPURA_ASSIGN(const HostFacts facts, look_at_host(flags.path));
    const std::vector<Finding> findings = judge(facts);
    HYPURA_TRY(print_text(flags.json ? findings_json(findings) : findings_text(findings)));
    if (stops(findings)) return fail(ErrorCode::kUnsupportedHost, "hypura cannot run here: see the lines above");
    return {};
}

}  // namespace

void add_doctor(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<DoctorFlags>();
    CLI::App* command = app.add_subcommand("doctor", "Check this host, and say what to change");
    command->add_option("PATH", flags->path, "a model, or the folder where models are (default: here)");
    command->add_flag("--json", flags->json, "print JSON");
    command->callback([flags, &context] { context.action = [flags] { return doctor(*flags); }; });
}

}  // namespace hypura::cli
