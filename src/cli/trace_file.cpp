#include "cli/trace_file.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <format>
#include <string_view>

namespace hypura::cli {
namespace {

using Json = nlohmann::ordered_json;
using residency::DemandTrace;
using residency::Found;
using residency::TraceEvent;
using residency::TraceStep;

constexpr int kVersion = 3;
constexpr std::string_view kFoundLetters = "hpwm";  // by Found
constexpr char kLowestStanding = '0';

// ---- writing -------------------------------------------------------------------------------------------------------

std::string header_line(const DemandTrace& trace) {
    Json pages = Json::array();
    for (const residency::TracePage& page : trace.pages)
        pages.push_back({page.layer, page.expert, page.slot_class, page.bytes});
    const Json header = {{"hypura_trace", kVersion},
                         {"model", trace.model},
                         {"class_slots", trace.class_slots},
                         {"pages", std::move(pages)}};
    return header.dump() + "\n";
}

std::string standings_text(std::span<const residency::Standing> standings) {
    std::string text;
    for (const residency::Standing standing : standings) text += static_cast<char>(kLowestStanding + standing);
    return text;
}

std::string demand_line(const DemandTrace& trace, size_t begin, uint32_t count, std::string_view standings) {
    std::string pages, found;
    for (size_t i = begin; i < begin + count; ++i) {
        pages += std::format("{}{}", i == begin ? "" : ",", trace.demands[i]);
        found += kFoundLetters[static_cast<size_t>(trace.found[i])];
    }
    const std::string stood = standings.empty() ? "" : ",\"s\":" + Json(standings).dump();
    return std::format("{{\"d\":[{}],\"f\":\"{}\"{}}}\n", pages, found, stood);
}

std::string counters_line(const residency::CacheCounters& counters) {
    const Json line = {{"counters",
                        {{"demands", counters.demands},
                         {"hits", counters.hits},
                         {"joined", counters.joined},
                         {"evictions", counters.evictions},
                         {"prefetches", counters.prefetches},
                         {"prefetch_wasted", counters.prefetch_wasted}}}};
    return line.dump() + "\n";
}

// ---- reading -------------------------------------------------------------------------------------------------------

// What a line gets wrong is thrown, by nlohmann::json or as this, and becomes an Error in one place.
struct BadLine {
    std::string reason;
};

void require(bool holds, const char* reason) {
    if (!holds) throw BadLine{reason};
}

void read_header(const Json& line, DemandTrace& trace) {
    require(line.contains("hypura_trace"), "it is not a hypura trace");
    require(line["hypura_trace"] == kVersion, "this version of the format is not known");
    trace.model = line.at("model").get<std::string>();
    trace.class_slots = line.at("class_slots").get<std::vector<uint32_t>>();
    for (const Json& page : line.at("pages")) {
        const residency::TracePage read = {page.at(0).get<int32_t>(), page.at(1).get<int32_t>(),
                                           page.at(2).get<uint32_t>(), page.at(3).get<uint64_t>()};
        require(read.slot_class < trace.class_slots.size(), "a page belongs to no class");
        trace.pages.push_back(read);
    }
}

residency::PageId page_number(const Json& number, const DemandTrace& trace) {
    const auto page = number.get<residency::PageId>();
    require(page < trace.pages.size(), "there is no such page");
    return page;
}

// Each belongs to a page of the layer whose experts are demanded.
uint32_t read_standings(const Json& line, DemandTrace& trace) {
    if (!line.contains("s")) return 0;
    require(!line["d"].empty(), "standings of no layer");
    const auto& text = line["s"].get_ref<const std::string&>();
    for (const char letter : text) {
        const int standing = letter - kLowestStanding;
        require(standing >= 0 && standing <= residency::kHighestStanding, "a standing is not between 0 and 63");
        trace.standings.push_back(static_cast<residency::Standing>(standing));
    }
    const auto first_page = residency::standings_of_layer(trace, line["d"][0].get<residency::PageId>(), {}).first_page;
    require(first_page + text.size() <= trace.pages.size(), "there are standings of more experts than the layer has");
    return static_cast<uint32_t>(text.size());
}

void read_demands(const Json& line, DemandTrace& trace) {
    const auto& found = line.at("f").get_ref<const std::string&>();
    require(found.size() == line["d"].size(), "pages and findings differ in number");
    for (const Json& page : line["d"]) trace.demands.push_back(page_number(page, trace));
    for (const char letter : found) {
        const size_t place = kFoundLetters.find(letter);
        require(place != std::string_view::npos, "a finding is none of h, p, w and m");
        trace.found.push_back(static_cast<Found>(place));
    }
    trace.events.push_back({TraceStep::kAcquire, static_cast<uint32_t>(found.size()), read_standings(line, trace)});
}

void read_counters(const Json& line, residency::CacheCounters& counters) {
    counters.demands = line.at("demands").get<uint64_t>();
    counters.hits = line.at("hits").get<uint64_t>();
    counters.joined = line.at("joined").get<uint64_t>();
    counters.evictions = line.at("evictions").get<uint64_t>();
    counters.prefetches = line.at("prefetches").get<uint64_t>();
    counters.prefetch_wasted = line.at("prefetch_wasted").get<uint64_t>();
}

void read_line(const Json& line, DemandTrace& trace) {
    if (line.contains("d"))
        read_demands(line, trace);
    else if (line.contains("pass"))
        trace.events.push_back({TraceStep::kPass, line["pass"].get<uint32_t>()});
    else if (line.contains("a"))
        trace.events.push_back({TraceStep::kPrefetch, page_number(line["a"], trace)});
    else if (line.contains("w"))
        trace.events.push_back({TraceStep::kWithdraw, page_number(line["w"], trace)});
    else
        read_counters(line.at("counters"), trace.counters);
}

// Calls `take(line, number)` for each line that is not empty.
template <class Take>
void for_each_line(const std::string& text, size_t& number, const Take& take) {
    for (size_t begin = 0; begin < text.size(); ++number) {
        const size_t end = std::min(text.find('\n', begin), text.size());
        if (end > begin)
            take(Json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                             text.begin() + static_cast<std::ptrdiff_t>(end)));
        begin = end + 1;
    }
}

}  // namespace

std::string trace_text(const DemandTrace& trace) {
    std::string text = header_line(trace);
    size_t demand = 0;
    size_t standing = 0;
    for (const TraceEvent& event : trace.events) {
        if (event.step == TraceStep::kPass) text += std::format("{{\"pass\":{}}}\n", event.count);
        if (event.step == TraceStep::kPrefetch) text += std::format("{{\"a\":{}}}\n", event.count);
        if (event.step == TraceStep::kWithdraw) text += std::format("{{\"w\":{}}}\n", event.count);
        if (event.step != TraceStep::kAcquire) continue;
        const auto standings = std::span(trace.standings).subspan(standing, event.standings);
        text += demand_line(trace, demand, event.count, standings_text(standings));
        demand += event.count;
        standing += event.standings;
    }
    return text + counters_line(trace.counters);
}

Result<DemandTrace> parse_trace(const std::string& text, const std::string& name) {
    DemandTrace trace;
    size_t number = 1;
    bool header = true;
    const auto wrong = [&](std::string_view reason) {
        return fail(ErrorCode::kInvalidArgument, "{}:{}: {}", name, number, reason);
    };
    try {
        for_each_line(text, number, [&](const Json& line) {
            header ? read_header(line, trace) : read_line(line, trace);
            header = false;
        });
    } catch (const BadLine& bad) {
        return wrong(bad.reason);
    } catch (const nlohmann::json::exception& error) {
        return wrong(error.what());
    }
    if (header) return wrong("it is empty");
    return trace;
}

}  // namespace hypura::cli
