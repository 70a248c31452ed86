#include "cli/summary.h"

#include "base/bytes.h"

#include <nlohmann/json.hpp>

#include <format>

namespace hypura::cli {
namespace {

using Json = nlohmann::ordered_json;

double per_second(double amount, int64_t elapsed_us) {
    return elapsed_us > 0 ? amount * 1e6 / static_cast<double>(elapsed_us) : 0;
}

double seconds(int64_t us) { return static_cast<double>(us) / 1e6; }

// ---- text ----------------------------------------------------------------------------------------------------------

std::string line(std::string_view label, std::string_view text) { return std::format("{:<12}{}\n", label, text); }

std::string mode_line(const engine::Report& report) {
    return line("mode", std::format("{}: {}", to_string(report.mode), report.reason));
}

std::string weights_line(const engine::Report& report) {
    if (report.mode == engine::Mode::kMmap)
        return line("weights",
                    std::format("{} mapped; the page cache holds as much as it can", format_bytes(report.model_bytes)));
    if (report.streamed_bytes == 0)
        return line("weights", std::format("{} of {} in memory", format_bytes(report.resident_bytes),
                                           format_bytes(report.model_bytes)));
    return line("weights",
                std::format("{} in memory, {} in the file through {} of slots", format_bytes(report.resident_bytes),
                            format_bytes(report.streamed_bytes), format_bytes(report.slot_bytes)));
}

// Plain modes leave the context to libllama, which does not say what it takes.
std::string memory_line(const engine::Report& report) {
    if (report.context_bytes == 0 && report.ram_bytes == 0) return "";
    std::string text = report.context_bytes == 0
                           ? std::string("context not measured")
                           : std::format("KV cache and compute {}", format_bytes(report.context_bytes));
    if (report.ram_bytes > 0) text += std::format(", budget {}", format_bytes(report.ram_bytes));
    return line("memory", text);
}

std::string reads_line(const engine::Report& report) {
    if (report.streamed_bytes == 0) return "";
    return line("reads",
                std::format("{} by {}{} at {}/s, computation waited {:.2f} s", format_bytes(report.reads.bytes),
                            report.reader, report.direct_io ? "" : " (buffered)",
                            format_bytes(static_cast<uint64_t>(read_rate(report))), seconds(report.wait_us)));
}

std::string cache_line(const engine::Report& report) {
    if (report.demands == 0) return "";
    return line("cache", std::format("{:.1f}% of {} demands were in memory, {} evictions", 100 * hit_rate(report),
                                     report.demands, report.evictions));
}

// In percent.
double of_device_demands(uint64_t count, const engine::Report& report) {
    return 100 * static_cast<double>(count) / static_cast<double>(report.device_demands);
}

std::string device_lines(const engine::Report& report) {
    if (report.devices.empty()) return "";
    std::string names;
    for (const std::string& name : report.devices) names += (names.empty() ? "" : ", ") + name;
    std::string text = line("devices", std::format("{}: {} layers", names, report.gpu_layers));
    if (report.device_weight_bytes > 0)
        text += line("", std::format("{} of weights, {} of slots for experts", format_bytes(report.device_weight_bytes),
                                     format_bytes(report.device_slot_bytes)));
    if (report.device_demands > 0)
        text +=
            line("", std::format("{:.1f}% of {} demands were in device slots, {:.1f}% were uploaded ahead; {} uploaded",
                                 of_device_demands(report.device_hits, report), report.device_demands,
                                 of_device_demands(report.device_brought_ahead, report),
                                 format_bytes(report.device_uploaded_bytes)));
    return text;
}

std::string drafts_line(const engine::Report& report) {
    if (report.drafted_tokens == 0) return "";
    return line("drafts", std::format("{} of {} drafted tokens were right ({})", report.accepted_tokens,
                                      report.drafted_tokens, report.drafts));
}

std::string trouble_line(const engine::Report& report) {
    if (report.reads.retries + report.reads.failures == 0) return "";
    return line("read errors", std::format("{} retries, {} failures", report.reads.retries, report.reads.failures));
}

std::string speed_lines(const engine::Report& report, const RunTotals& totals) {
    std::string text = line("loading", std::format("{:.2f} s", seconds(report.load_us)));
    if (totals.answers == 0) return text;
    text += line("prompt", std::format("{} tokens, {:.2f} tok/s", totals.prompt_tokens, totals.prompt_rate()));
    text += line("answer", std::format("{} tokens, {:.2f} tok/s, first after {:.2f} s ({})", totals.generated_tokens,
                                       totals.decode_rate(), seconds(totals.first_token_us), to_string(totals.stop)));
    return text;
}

// ---- JSON ----------------------------------------------------------------------------------------------------------

Json reads_json(const storage::ReadCounters& reads) {
    return {{"reads", reads.reads},
            {"bytes", reads.bytes},
            {"retries", reads.retries},
            {"failures", reads.failures},
            {"busy_us", reads.busy_us}};
}

Json memory_json(const engine::Report& report) {
    return {{"model_bytes", report.model_bytes},
            {"resident_bytes", report.resident_bytes},
            {"streamed_bytes", report.streamed_bytes},
            {"slot_bytes", report.slot_bytes},
            {"scanned_bytes", report.scanned_bytes},
            {"context_bytes", report.context_bytes},
            {"ram_bytes", report.ram_bytes}};
}

Json streaming_json(const engine::Report& report) {
    return {{"reader", report.reader},
            {"direct_io", report.direct_io},
            {"demands", report.demands},
            {"hits", report.hits},
            {"hit_rate", hit_rate(report)},
            {"prefetches", report.prefetches},
            {"prefetch_wasted", report.prefetch_wasted},
            {"evictions", report.evictions},
            {"evictions_by_layer", report.evictions_by_layer},
            {"wait_us", report.wait_us},
            {"reads", reads_json(report.reads)},
            {"row_reads", reads_json(report.row_reads)},
            {"read_bytes_per_second", read_rate(report)}};
}

Json devices_json(const engine::Report& report) {
    return {{"names", report.devices},
            {"gpu_layers", report.gpu_layers},
            {"weight_bytes", report.device_weight_bytes},
            {"slot_bytes", report.device_slot_bytes},
            {"demands", report.device_demands},
            {"hits", report.device_hits},
            {"brought_ahead", report.device_brought_ahead},
            {"uploaded_bytes", report.device_uploaded_bytes},
            {"batches_staged", report.device_batches_staged},
            {"batches_in_pieces", report.device_batches_in_pieces}};
}

Json drafts_json(const engine::Report& report) {
    return {{"from", report.drafts},
            {"drafted_tokens", report.drafted_tokens},
            {"accepted_tokens", report.accepted_tokens}};
}

Json speed_json(const RunTotals& totals) {
    return {{"answers", totals.answers},
            {"prompt_tokens", totals.prompt_tokens},
            {"prompt_us", totals.prompt_us},
            {"prompt_tokens_per_second", totals.prompt_rate()},
            {"generated_tokens", totals.generated_tokens},
            {"decode_us", totals.decode_us},
            {"decode_tokens_per_second", totals.decode_rate()},
            {"first_token_us", totals.first_token_us},
            {"stop", to_string(totals.stop)}};
}

}  // namespace

void RunTotals::add(const engine::GenerateResult& answer) {
    if (answers == 0) first_token_us = answer.first_token_us;
    ++answers;
    prompt_tokens += answer.prompt_tokens;
    prompt_us += answer.prompt_us;
    generated_tokens += answer.tokens.size();
    if (!answer.tokens.empty()) decode_steps += answer.tokens.size() - 1;
    decode_us += answer.decode_us;
    stop = answer.stop;
}

double RunTotals::prompt_rate() const { return per_second(static_cast<double>(prompt_tokens), prompt_us); }
double RunTotals::decode_rate() const { return per_second(static_cast<double>(decode_steps), decode_us); }

double hit_rate(const engine::Report& report) {
    return report.demands == 0 ? 1.0 : static_cast<double>(report.hits) / static_cast<double>(report.demands);
}

double read_rate(const engine::Report& report) {
    return per_second(static_cast<double>(report.reads.bytes), report.reads.busy_us);
}

std::string summary_text(const engine::Report& report, const RunTotals& totals) {
    return mode_line(report) + weights_line(report) + memory_line(report) + device_lines(report) + reads_line(report) +
           cache_line(report) + drafts_line(report) + trouble_line(report) + speed_lines(report, totals);
}

std::string summary_json(const engine::Report& report, const RunTotals& totals) {
    Json json = {{"mode", to_string(report.mode)},
                 {"reason", report.reason},
                 {"batch_tokens", report.batch_tokens},
                 {"chunk_tokens", report.chunk_tokens},
                 {"context_tokens", report.context_tokens},
                 {"cache_type", report.cache_type},
                 {"predicted_tokens_per_second", report.predicted_tokens_per_second},
                 {"memory", memory_json(report)},
                 {"load_us", report.load_us},
                 {"load_reads", reads_json(report.load_reads)},
                 {"streaming", streaming_json(report)},
                 {"devices", devices_json(report)},
                 {"drafts", drafts_json(report)},
                 {"speed", speed_json(totals)},
                 {"notes", report.notes}};
    // Notes quote tensor names of the file, which need not be UTF-8.
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace hypura::cli
