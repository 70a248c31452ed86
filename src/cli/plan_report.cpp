#include "cli/plan_report.h"

#include "base/bytes.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <format>

namespace hypura::cli {
namespace {

using Json = nlohmann::ordered_json;
using placement::LayerPlace;
using placement::ModeOutlook;
using placement::Plan;
using placement::Prediction;

// ---- text ----------------------------------------------------------------------------------------------------------

std::string line(std::string_view label, std::string_view text) { return std::format("{:<14}{}\n", label, text); }

std::string bar(uint64_t bytes, uint64_t longest_bytes) {
    constexpr double kWidth = 40;
    const double share = static_cast<double>(bytes) / static_cast<double>(std::max<uint64_t>(longest_bytes, 1));
    return std::string(static_cast<size_t>(std::lround(share * kWidth)), '#');
}

struct TierLine {
    std::string label;
    uint64_t bytes = 0;
    std::string remark;
};

std::vector<TierLine> memory_lines(const PlanReport& report) {
    const Plan& plan = report.plan;
    const std::string pool = plan.pool_slots == 0
                                 ? ""
                                 : std::format("{} slots for {} experts ({:.0f} %)", plan.pool_slots, plan.pool_experts,
                                               100.0 * plan.pool_slots / std::max(plan.pool_experts, 1U));
    std::vector<TierLine> lines = {
        {"weights", plan.resident_bytes, "resident"},
        {"expert pool", plan.pool_bytes, pool},
        {"ring", plan.ring_bytes, "dense weights on their way"},
        {"KV cache", plan.cache_bytes, std::format("{} tokens, {}", plan.context_tokens, to_string(plan.cache_type))},
        {"buffers", plan.compute_bytes, std::format("passes of {} tokens", plan.batch_tokens)},
        {"process", plan.other_bytes, ""}};
    std::erase_if(lines, [](const TierLine& tier) { return tier.bytes == 0; });
    return lines;
}

std::string tiers_text(const PlanReport& report) {
    const Plan& plan = report.plan;
    const uint64_t longest = std::max({report.ram_bytes, plan.memory_bytes(), plan.disk_bytes});
    std::string text = std::format("\n{:<14}{:>11}  {}\n", "memory", format_bytes(plan.memory_bytes()),
                                   bar(plan.memory_bytes(), longest));
    for (const TierLine& tier : memory_lines(report))
        text += std::format("  {:<12}{:>11}  {}{}{}\n", tier.label, format_bytes(tier.bytes), bar(tier.bytes, longest),
                            tier.remark.empty() ? "" : " ", tier.remark);
    if (report.ram_bytes > 0) text += line("  budget", std::format("{:>10}", format_bytes(report.ram_bytes)));
    return text + std::format("{:<14}{:>11}  {}{}\n", "disk", format_bytes(plan.disk_bytes),
                              bar(plan.disk_bytes, longest), plan.disk_bytes > 0 ? " streamed weights" : "");
}

std::string seconds_text(double seconds) {
    return seconds < 1 ? std::format("{:.3g} ms", seconds * 1e3) : std::format("{:.3g} s", seconds);
}

std::string rate_text(double tokens_per_second) { return std::format("{:.3g} tok/s", tokens_per_second); }

std::string bound_text(const Plan& plan) {
    if (plan.bound_token_s <= 0) return "";
    return line("  at best", std::format("{} with this memory and disk, however laid out and scheduled",
                                         rate_text(1 / plan.bound_token_s)));
}

std::string prompt_text(const Prediction& prediction, uint32_t prompt_tokens) {
    return line("  prompt", std::format("{}, first token of a prompt of {} after {}",
                                        rate_text(prediction.prefill_tokens_per_second), prompt_tokens,
                                        seconds_text(prediction.first_token_s)));
}

std::string prediction_text(const PlanReport& report) {
    const Prediction& prediction = report.plan.prediction;
    std::string text = "\npredicted\n";
    text += line("  decode", std::format("{}: {} of arithmetic, {} of waiting for the disk",
                                         rate_text(prediction.decode_tokens_per_second()),
                                         seconds_text(prediction.compute_s), seconds_text(prediction.exposed_read_s)));
    text += bound_text(report.plan);
    text += prompt_text(prediction, report.prompt_tokens);
    text +=
        line("  reads",
             std::format("{} a token{}", format_bytes(static_cast<uint64_t>(prediction.read_bytes_per_token)),
                         report.plan.pool_slots > 0 ? std::format(", {:.0f} % of the experts are in memory when needed",
                                                                  100 * (1 - prediction.expert_miss))
                                                    : ""));
    text += line("  loading", seconds_text(prediction.load_s));
    return text + line("  bound by", prediction.bottleneck());
}

// The graphics card: what it would hold, and what a token would then take.
std::string device_text(const PlanReport& report) {
    if (!report.device) return "";
    const placement::DeviceOutlook& outlook = *report.device;
    const uint64_t used_bytes = outlook.plan.used_bytes() + outlook.bank_bytes + outlook.staging_bytes;
    const uint64_t longest = std::max(outlook.room_bytes, used_bytes);
    const std::string slots =
        std::format("{} slots for {} experts ({:.0f} %)", outlook.bank_slots, outlook.bank_experts,
                    100.0 * outlook.bank_slots / std::max(outlook.bank_experts, 1U));
    std::string text =
        std::format("\n{:<14}{:>11}  {}\n", outlook.device, format_bytes(used_bytes), bar(used_bytes, longest));
    std::vector<TierLine> lines = {
        {"weights", outlook.plan.weights_bytes, std::format("{} layers, the output as one", outlook.plan.gpu_layers)},
        {"expert pool", outlook.bank_bytes, slots},
        {"staging", outlook.staging_bytes, "for experts of prompts"},
        {"KV cache", outlook.plan.cache_bytes, ""},
        {"buffers", outlook.plan.compute_bytes, std::format("passes of {} tokens", outlook.pass_tokens)}};
    std::erase_if(lines, [](const TierLine& tier) { return tier.bytes == 0; });
    for (const TierLine& tier : lines)
        text += std::format("  {:<12}{:>11}  {}{}{}\n", tier.label, format_bytes(tier.bytes), bar(tier.bytes, longest),
                            tier.remark.empty() ? "" : " ", tier.remark);
    text += line("  room", std::format("{:>10}", format_bytes(outlook.room_bytes)));
    text += line("  decode", outlook.is_predicted()
                                 ? std::format("{}: {} of arithmetic and uploads, {} of waiting for the disk",
                                               rate_text(outlook.prediction.decode_tokens_per_second()),
                                               seconds_text(outlook.prediction.compute_s),
                                               seconds_text(outlook.prediction.exposed_read_s))
                                 : "not predicted where experts are on cards and other machines");
    if (outlook.prediction.prefill_tokens_per_second > 0) text += prompt_text(outlook.prediction, report.prompt_tokens);
    if (outlook.bank_slots > 0)
        text += line("  experts", std::format("{:.0f} % are on the device when needed, {:.0f} % are read",
                                              100 * (1 - outlook.device_miss), 100 * outlook.disk_miss));
    const placement::DeviceChoice& choice = report.device_choice;
    return choice.reason.empty() ? text : text + line(choice.use_cards ? "  used" : "  not used", choice.reason);
}

std::string measured_text(const PlanReport& report) {
    if (report.machine_measured && report.disk_measured) return "";
    return std::format("\nThe {} not measured, and assumed to be slow: run hypura profile for real figures.\n",
                       report.machine_measured ? "disk was"
                       : report.disk_measured  ? "processor was"
                                               : "machine and its disk were");
}

std::string outlooks_text(const Plan& plan) {
    std::string text = std::format("\n{:<14}{:>12}{:>14}\n", "modes", "needs", "decode");
    for (const ModeOutlook& outlook : plan.outlooks)
        text += std::format("  {:<12}{:>12}{:>14}{}\n", to_string(outlook.mode), format_bytes(outlook.needed_bytes),
                            outlook.fits ? rate_text(outlook.prediction.decode_tokens_per_second()) : "does not fit",
                            outlook.mode == plan.mode ? "  chosen" : "");
    return text;
}

std::string what_if_text(const PlanReport& report) {
    if (report.what_if.empty()) return "";
    std::string text = "\nwhat would change it\n";
    for (const placement::WhatIf& answer : report.what_if)
        text += std::format("  {:<28}{:>12} decode, {:>12} prompt ({})\n", answer.change,
                            rate_text(answer.plan.prediction.decode_tokens_per_second()),
                            rate_text(answer.plan.prediction.prefill_tokens_per_second), to_string(answer.plan.mode));
    return text;
}

// ---- JSON ----------------------------------------------------------------------------------------------------------

// What cannot be predicted (a disk without a rate) is null.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json prediction_json(const Prediction& prediction) {
    return {{"decode_tokens_per_second", number(prediction.decode_tokens_per_second())},
            {"prefill_tokens_per_second", number(prediction.prefill_tokens_per_second)},
            {"first_token_s", number(prediction.first_token_s)},
            {"load_s", number(prediction.load_s)},
            {"token_s", number(prediction.token_s)},
            {"compute_s", number(prediction.compute_s)},
            {"read_s", number(prediction.read_s)},
            {"exposed_read_s", number(prediction.exposed_read_s)},
            {"read_bytes_per_token", number(prediction.read_bytes_per_token)},
            {"expert_hit_rate", number(1 - prediction.expert_miss)},
            {"bottleneck", prediction.bottleneck()}};
}

Json outlook_json(const ModeOutlook& outlook) {
    return {{"mode", to_string(outlook.mode)},
            {"fits", outlook.fits},
            {"needed_bytes", outlook.needed_bytes},
            {"prediction", outlook.fits ? prediction_json(outlook.prediction) : Json(nullptr)}};
}

Json layer_json(const LayerPlace& place) {
    return {{"layer", place.layer},
            {"resident_bytes", place.resident_bytes},
            {"streamed_dense_bytes", place.streamed_dense_bytes},
            {"expert_bytes", place.expert_bytes},
            {"pool_share", place.pool_share}};
}

Json device_json(const PlanReport& report) {
    if (!report.device) return nullptr;
    const placement::DeviceOutlook& outlook = *report.device;
    return {{"name", outlook.device},
            {"mode", to_string(outlook.mode)},
            {"room_bytes", outlook.room_bytes},
            {"gpu_layers", outlook.plan.gpu_layers},
            {"weight_bytes", outlook.plan.weights_bytes},
            {"cache_bytes", outlook.plan.cache_bytes},
            {"compute_bytes", outlook.plan.compute_bytes},
            {"batch_tokens", outlook.pass_tokens},
            {"slot_bytes", outlook.bank_bytes},
            {"staging_bytes", outlook.staging_bytes},
            {"slots", outlook.bank_slots},
            {"slot_experts", outlook.bank_experts},
            {"miss_rate", number(outlook.device_miss)},
            {"used", report.device_choice.use_cards},
            {"reason", report.device_choice.reason},
            {"prediction", outlook.is_predicted() ? prediction_json(outlook.prediction) : Json(nullptr)}};
}

Json memory_json(const PlanReport& report) {
    const Plan& plan = report.plan;
    return {{"budget_bytes", report.ram_bytes},      {"total_bytes", plan.memory_bytes()},
            {"resident_bytes", plan.resident_bytes}, {"pool_bytes", plan.pool_bytes},
            {"pool_slots", plan.pool_slots},         {"pool_experts", plan.pool_experts},
            {"ring_bytes", plan.ring_bytes},         {"cache_bytes", plan.cache_bytes},
            {"compute_bytes", plan.compute_bytes},   {"process_bytes", plan.other_bytes}};
}

// ---- SVG -----------------------------------------------------------------------------------------------------------

constexpr double kRowHeight = 14, kLeft = 70, kWidth = 760, kTop = 64;

struct Segment {
    double bytes;
    std::string_view colour;
    std::string_view what;
};

// Colours that people who confuse red and green can tell apart.
constexpr std::string_view kResidentColour = "#0072b2", kPoolColour = "#56b4e9", kDiskColour = "#e69f00";

std::vector<Segment> segments(const LayerPlace& place) {
    const auto experts = static_cast<double>(place.expert_bytes);
    const double in_pool = experts * place.pool_share;
    return {{static_cast<double>(place.resident_bytes), kResidentColour, "in memory"},
            {in_pool, kPoolColour, "experts in memory"},
            {experts - in_pool + static_cast<double>(place.streamed_dense_bytes), kDiskColour, "read from the disk"}};
}

double bytes_of(const LayerPlace& place) {
    return static_cast<double>(place.resident_bytes + place.streamed_dense_bytes + place.expert_bytes);
}

std::string escaped(std::string_view text) {
    std::string safe;
    for (const char c : text) safe += c == '<' ? "&lt;" : c == '&' ? "&amp;" : c == '>' ? "&gt;" : std::string(1, c);
    return safe;
}

std::string svg_row(const LayerPlace& place, double y, double bytes_per_unit) {
    std::string text = std::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", kLeft - 6, y + 10,
                                   place.layer < 0 ? "other" : std::format("{}", place.layer));
    double x = kLeft;
    for (const Segment& segment : segments(place)) {
        const double width = segment.bytes / bytes_per_unit;
        if (width < 0.05) continue;
        text += std::format(
            "<rect x=\"{:.1f}\" y=\"{}\" width=\"{:.1f}\" height=\"{}\" fill=\"{}\"><title>{}: {}</title></rect>\n", x,
            y, width, kRowHeight - 2, segment.colour, segment.what, format_bytes(static_cast<uint64_t>(segment.bytes)));
        x += width;
    }
    return text;
}

std::string svg_legend() {
    std::string text;
    double x = kLeft;
    for (const Segment& entry : segments({})) {
        text += std::format(
            "<rect x=\"{}\" y=\"36\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"46\">{}</text>\n", x,
            entry.colour, x + 18, entry.what);
        x += 190;
    }
    return text;
}

}  // namespace

std::string plan_text(const PlanReport& report) {
    return "\n" + line("plan", std::format("{}: {}", to_string(report.plan.mode), report.plan.reason)) +
           tiers_text(report) + prediction_text(report) + device_text(report) + outlooks_text(report.plan) +
           what_if_text(report) + measured_text(report);
}

Json plan_json(const PlanReport& report) {
    const Plan& plan = report.plan;
    Json json = {{"mode", to_string(plan.mode)},
                 {"reason", plan.reason},
                 {"context_tokens", plan.context_tokens},
                 {"batch_tokens", plan.batch_tokens},
                 {"cache_type", to_string(plan.cache_type)},
                 {"memory", memory_json(report)},
                 {"disk_bytes", plan.disk_bytes},
                 {"machine_measured", report.machine_measured},
                 {"disk_measured", report.disk_measured},
                 {"prediction", prediction_json(plan.prediction)},
                 {"bound_tokens_per_second", plan.bound_token_s > 0 ? Json(1 / plan.bound_token_s) : Json(nullptr)},
                 {"device", device_json(report)},
                 {"modes", Json::array()},
                 {"layers", Json::array()},
                 {"what_if", Json::array()}};
    for (const ModeOutlook& outlook : plan.outlooks) json["modes"].push_back(outlook_json(outlook));
    for (const LayerPlace& place : plan.layers) json["layers"].push_back(layer_json(place));
    for (const placement::WhatIf& answer : report.what_if)
        json["what_if"].push_back({{"change", answer.change},
                                   {"mode", to_string(answer.plan.mode)},
                                   {"prediction", prediction_json(answer.plan.prediction)}});
    return json;
}

std::string plan_svg(const PlanReport& report, const std::string& title) {
    double longest_bytes = 1;
    for (const LayerPlace& place : report.plan.layers) longest_bytes = std::max(longest_bytes, bytes_of(place));
    const double height = kTop + kRowHeight * static_cast<double>(report.plan.layers.size()) + 10;
    std::string text = std::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
        "font-family=\"sans-serif\" "
        "font-size=\"11\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n<text x=\"{2}\" y=\"20\" "
        "font-size=\"14\">{3}</text>\n",
        kLeft + kWidth + 10, height, kLeft,
        escaped(std::format("{}: {}, {} predicted", title, to_string(report.plan.mode),
                            rate_text(report.plan.prediction.decode_tokens_per_second()))));
    text += svg_legend();
    double y = kTop;
    for (const LayerPlace& place : report.plan.layers) {
        text += svg_row(place, y, longest_bytes / kWidth);
        y += kRowHeight;
    }
    return text + "</svg>\n";
}

}  // namespace hypura::cli
