#include "cli/verify_report.h"

#include "base/bytes.h"

#include <nlohmann/json.hpp>

#include <format>

namespace hypura::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kRow = "{:<16} {:>10} {:>12} {:>10} {:>19} {:>10}\n";

std::string header_row() {
    return std::format(kRow, "budget", "slots", "compared", "different", "hits/demands", "evictions");
}

std::string table_row(const engine::VerifyRun& run) {
    return std::format(kRow, run.budget, format_bytes(run.slot_bytes), run.logits_compared, run.logits_different,
                       std::format("{}/{}", run.report.hits, run.report.demands), run.report.evictions);
}

std::string details(const engine::VerifyRun& run) {
    std::string text = std::format("\n{}\n", run.budget);
    if (run.logits_different > 0)
        text += std::format("  first difference in the logits of token {}\n", run.first_difference_row);
    if (!run.report.evictions_by_layer.empty())
        text += std::format("  evictions by layer: {}\n", compact_layers(run.report.evictions_by_layer));
    if (!run.report.devices.empty())
        text += std::format(
            "  largest error {:.1e}; device slots: {} of {} demands hit, {} uploaded, {} batches staged, {} in "
            "pieces\n",
            run.largest_error, run.report.device_hits, run.report.device_demands,
            format_bytes(run.report.device_uploaded_bytes), run.report.device_batches_staged,
            run.report.device_batches_in_pieces);
    for (const std::string& note : run.report.notes) text += std::format("  {}\n", note);
    return text;
}

Json run_json(const engine::VerifyRun& run) {
    Json json = {{"budget", run.budget},
                 {"resident_bytes", run.report.resident_bytes},
                 {"streamed_bytes", run.report.streamed_bytes},
                 {"slot_bytes", run.slot_bytes},
                 {"logits_compared", run.logits_compared},
                 {"logits_different", run.logits_different},
                 {"largest_error", run.largest_error},
                 {"device_slot_bytes", run.report.device_slot_bytes},
                 {"device_demands", run.report.device_demands},
                 {"device_hits", run.report.device_hits},
                 {"device_uploaded_bytes", run.report.device_uploaded_bytes},
                 {"device_batches_staged", run.report.device_batches_staged},
                 {"device_batches_in_pieces", run.report.device_batches_in_pieces},
                 {"demands", run.report.demands},
                 {"hits", run.report.hits},
                 {"evictions", run.report.evictions},
                 {"evictions_by_layer", run.report.evictions_by_layer},
                 {"bytes_read", run.report.reads.bytes},
                 {"notes", run.report.notes}};
    if (run.logits_different > 0) json["first_difference_row"] = run.first_difference_row;
    return json;
}

std::string verdict(const engine::VerifyResult& result) {
    if (result.identical()) return "\nidentical: every logit has the same bits\n";
    if (result.passed())
        return std::format("\nequal within {:.1e} of each row's largest logit: devices round in other ways\n",
                           engine::kDeviceTolerance);
    return "\nDIFFERENT\n";
}

std::string layer_range(size_t first, size_t last) {
    return first == last ? std::format("{}", first) : std::format("{}-{}", first, last);
}

}  // namespace

std::string compact_layers(std::span<const uint64_t> counts) {
    std::string text;
    for (size_t first = 0; first < counts.size();) {
        size_t last = first;
        while (last + 1 < counts.size() && counts[last + 1] == counts[first]) ++last;
        text += std::format("{}{}: {}", text.empty() ? "" : ", ", layer_range(first, last), counts[first]);
        first = last + 1;
    }
    return text;
}

std::string verify_text(const engine::VerifyResult& result) {
    std::string text = header_row();
    for (const engine::VerifyRun& run : result.runs) text += table_row(run);
    for (const engine::VerifyRun& run : result.runs) text += details(run);
    return text + verdict(result);
}

std::string verify_json(const engine::VerifyResult& result) {
    Json runs = Json::array();
    for (const engine::VerifyRun& run : result.runs) runs.push_back(run_json(run));
    const Json json = {{"identical", result.identical()}, {"passed", result.passed()}, {"runs", std::move(runs)}};
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace hypura::cli
