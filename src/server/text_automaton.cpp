#include "server/text_automaton.h"

#include "server/explore.h"

#include <algorithm>
#include <format>
#include <set>

namespace hypura::server {
namespace {

constexpr uint32_t kNowhere = UINT32_MAX;
constexpr char32_t kBeyond = 0x110000;

using Edges = std::vector<std::pair<CharRange, uint32_t>>;

// ---- minimizing ----------------------------------------------------------------------------------------------------

std::vector<bool> states_that_lead_to_an_end(const TextAutomaton& automaton) {
    std::vector<std::vector<uint32_t>> sources(automaton.states.size());
    std::vector<uint32_t> found;
    std::vector<bool> useful(automaton.states.size());
    for (uint32_t i = 0; i < automaton.states.size(); ++i) {
        for (const auto& edge : automaton.states[i].edges) sources[edge.to].push_back(i);
        if (automaton.states[i].accepts) found.push_back(i), useful[i] = true;
    }
    while (!found.empty()) {
        const uint32_t state = found.back();
        found.pop_back();
        for (const uint32_t source : sources[state])
            if (!useful[source]) found.push_back(source), useful[source] = true;
    }
    return useful;
}

// Hopcroft's algorithm: groups of states are split until all states of a group lead to the same groups.
class Partition {
public:
    // Only `useful` states take part.
    Partition(const TextAutomaton& automaton, const std::vector<bool>& useful);
    const std::vector<uint32_t>& group_of() const { return group_of_; }  // kNowhere: not useful

private:
    struct Incoming {
        CharRange range;
        uint32_t from;
    };
    void split_by_edges_into(uint32_t group);
    void split(const std::set<uint32_t>& sources);
    void add_work(uint32_t group);
    void move(uint32_t state, uint32_t to_group);

    std::vector<std::vector<Incoming>> incoming_;
    std::vector<uint32_t> group_of_;
    std::vector<std::vector<uint32_t>> members_;
    std::vector<size_t> place_;  // of each state among its group's members
    std::vector<uint32_t> work_;
    std::vector<bool> is_work_;
};

Partition::Partition(const TextAutomaton& automaton, const std::vector<bool>& useful)
    : incoming_(automaton.states.size()),
      group_of_(automaton.states.size(), kNowhere),
      members_(2),
      place_(automaton.states.size()) {
    for (uint32_t i = 0; i < group_of_.size(); ++i) {
        if (!useful[i]) continue;
        group_of_[i] = static_cast<uint32_t>(automaton.states[i].accepts);
        place_[i] = members_[group_of_[i]].size();
        members_[group_of_[i]].push_back(i);
        for (const auto& [range, to] : automaton.states[i].edges)
            if (useful[to]) incoming_[to].push_back({range, i});
    }
    is_work_.resize(2);
    add_work(0);
    add_work(1);
    while (!work_.empty()) {
        const uint32_t group = work_.back();
        work_.pop_back();
        is_work_[group] = false;
        split_by_edges_into(group);
    }
}

void Partition::add_work(uint32_t group) {
    if (is_work_[group]) return;
    is_work_[group] = true;
    work_.push_back(group);
}

// The line of characters is cut wherever an edge begins or ends; in between, the same states lead into `group`.
void Partition::split_by_edges_into(uint32_t group) {
    std::map<char32_t, std::pair<std::vector<uint32_t>, std::vector<uint32_t>>> cuts;  // edges that begin, that ended
    for (const uint32_t member : members_[group])
        for (const auto& [range, from] : incoming_[member]) {
            cuts[range.first].first.push_back(from);
            cuts[range.last + 1].second.push_back(from);
        }
    std::set<uint32_t> sources;
    for (const auto& [character, changes] : cuts) {
        for (const uint32_t from : changes.second) sources.erase(from);
        for (const uint32_t from : changes.first) sources.insert(from);
        split(sources);
    }
}

void Partition::split(const std::set<uint32_t>& sources) {
    std::map<uint32_t, std::vector<uint32_t>> touched;
    for (const uint32_t source : sources) touched[group_of_[source]].push_back(source);
    for (auto& [group, inside] : touched) {
        if (inside.size() == members_[group].size()) continue;
        const auto added = static_cast<uint32_t>(members_.size());
        members_.emplace_back();
        is_work_.push_back(false);
        for (const uint32_t state : inside) move(state, added);
        const bool added_is_smaller = inside.size() <= members_[group].size();
        add_work(is_work_[group] || added_is_smaller ? added : group);
    }
}

void Partition::move(uint32_t state, uint32_t to_group) {
    std::vector<uint32_t>& old = members_[group_of_[state]];
    place_[old.back()] = place_[state];
    std::swap(old[place_[state]], old.back());
    old.pop_back();
    group_of_[state] = to_group;
    place_[state] = members_[to_group].size();
    members_[to_group].push_back(state);
}

// Edges with neighbours that have one target joined.
std::vector<TextAutomaton::Edge> joined_edges(const TextAutomaton::State& state,
                                              const std::vector<uint32_t>& group_of) {
    std::vector<TextAutomaton::Edge> edges;
    for (const auto& [range, to] : state.edges) {
        if (group_of[to] == kNowhere) continue;
        const bool joins =
            !edges.empty() && edges.back().to == group_of[to] && edges.back().range.last + 1 == range.first;
        if (joins)
            edges.back().range.last = range.last;
        else
            edges.push_back({range, group_of[to]});
    }
    return edges;
}

// Numbers the groups in the order in which their first states stand, so that the start's is 0.
uint32_t renumber(std::vector<uint32_t>& group_of) {
    std::map<uint32_t, uint32_t> numbers;
    for (uint32_t& group : group_of)
        if (group != kNowhere) group = numbers.try_emplace(group, static_cast<uint32_t>(numbers.size())).first->second;
    return static_cast<uint32_t>(numbers.size());
}

// ---- writing rules -------------------------------------------------------------------------------------------------

std::string class_character(char32_t c) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (plain) return {static_cast<char>(c)};
    const auto code = static_cast<uint32_t>(c);
    return code <= 0xFF ? std::format("\\x{:02X}", code) : std::format("\\U{:08X}", code);
}

// Characters that a JSON string writes with a backslash, and what follows it.
constexpr std::pair<char32_t, char> kEscapes[] = {{'\b', 'b'}, {'\t', 't'}, {'\n', 'n'}, {'\f', 'f'},
                                                  {'\r', 'r'}, {'"', '"'},  {'\\', '\\'}};

// The alternatives that lead over `ranges`: one class, and one literal for each escaped character.
std::vector<std::string> characters_of(const CharClass& ranges, Writing writing) {
    CharClass escaped;
    if (writing == Writing::kJsonString)
        for (const auto& [c, letter] : kEscapes) escaped.push_back({c, c});
    const auto contains = [&](char32_t c) {
        return std::ranges::any_of(ranges, [c](const CharRange& range) { return range.first <= c && c <= range.last; });
    };
    std::vector<std::string> list;
    std::string plain;
    CharClass taken = others(ranges);
    taken.insert(taken.end(), escaped.begin(), escaped.end());
    for (const CharRange& range : others(normalized(taken)))
        plain += class_character(range.first) +
                 (range.first == range.last ? std::string() : "-" + class_character(range.last));
    if (!plain.empty()) list.push_back("[" + plain + "]");
    if (writing == Writing::kPlain) return list;
    for (const auto& [c, letter] : kEscapes)
        if (contains(c))
            list.push_back(letter == '"' || letter == '\\' ? std::format("\"\\\\\\{}\"", letter)
                                                           : std::format("\"\\\\{}\"", letter));
    return list;
}

}  // namespace

// ---- characters ----------------------------------------------------------------------------------------------------

const CharClass& all_characters() {
    static const CharClass kAll = {{8, 10}, {12, 13}, {0x20, 0x7E}, {0x80, 0xD7FF}, {0xE000, 0x10FFFF}};
    return kAll;
}

CharClass normalized(CharClass ranges) {
    std::ranges::sort(ranges, {}, &CharRange::first);
    CharClass joined;
    for (const CharRange& range : ranges) {
        if (!joined.empty() && range.first <= joined.back().last + 1)
            joined.back().last = std::max(joined.back().last, range.last);
        else
            joined.push_back(range);
    }
    CharClass known;
    for (const CharRange& range : joined)
        for (const CharRange& all : all_characters())
            if (range.first <= all.last && all.first <= range.last)
                known.push_back({std::max(range.first, all.first), std::min(range.last, all.last)});
    return known;
}

CharClass others(const CharClass& ranges) {
    CharClass gaps;
    char32_t at = 0;
    for (const CharRange& range : ranges) {
        if (range.first > at) gaps.push_back({at, range.first - 1});
        at = range.last + 1;
    }
    if (at < kBeyond) gaps.push_back({at, kBeyond - 1});
    return normalized(std::move(gaps));
}

std::u32string code_points(std::string_view utf8) {
    std::u32string points;
    for (size_t i = 0; i < utf8.size();) {
        const auto lead = static_cast<unsigned char>(utf8[i]);
        const size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
        char32_t point = length == 0 ? 0xFFFD : length == 1 ? lead : lead & (0x7FU >> length);
        size_t used = 1;
        while (used < length && i + used < utf8.size() && (static_cast<unsigned char>(utf8[i + used]) >> 6) == 2)
            point = (point << 6) | (static_cast<unsigned char>(utf8[i + used++]) & 0x3FU);
        points += used < length || point >= kBeyond ? U'\xFFFD' : point;
        i += used;
    }
    return points;
}

// ---- automata ------------------------------------------------------------------------------------------------------

bool TextAutomaton::accepts(std::string_view utf8) const {
    if (states.empty()) return false;
    uint32_t at = 0;
    for (const char32_t c : code_points(utf8)) {
        const auto& edges = states[at].edges;
        const auto edge = std::ranges::find_if(
            edges, [c](const Edge& candidate) { return candidate.range.first <= c && c <= candidate.range.last; });
        if (edge == edges.end()) return false;
        at = edge->to;
    }
    return states[at].accepts;
}

TextAutomaton minimized(const TextAutomaton& automaton) {
    const std::vector<bool> useful = states_that_lead_to_an_end(automaton);
    if (useful.empty() || !useful[0]) return {};
    std::vector<uint32_t> group_of = Partition(automaton, useful).group_of();
    TextAutomaton smallest;
    smallest.states.resize(renumber(group_of));
    for (size_t i = 0; i < group_of.size(); ++i) {
        if (group_of[i] == kNowhere) continue;
        TextAutomaton::State& state = smallest.states[group_of[i]];
        state.accepts = automaton.states[i].accepts;
        if (state.edges.empty()) state.edges = joined_edges(automaton.states[i], group_of);
    }
    return smallest;
}

std::unexpected<ApiError> too_complicated() {
    return refuse(400, "JSON schema: a pattern, format, length or range is too complicated for a grammar");
}

ApiResult<TextAutomaton> intersection(const TextAutomaton& a, const TextAutomaton& b) {
    if (a.states.empty() || b.states.empty()) return TextAutomaton{};
    using Pair = std::pair<uint32_t, uint32_t>;
    const auto edges_of = [&](const Pair& at) {
        std::vector<std::pair<CharRange, Pair>> edges;
        for (const auto& one : a.states[at.first].edges)
            for (const auto& two : b.states[at.second].edges) {
                const CharRange common{std::max(one.range.first, two.range.first),
                                       std::min(one.range.last, two.range.last)};
                if (common.first <= common.last) edges.push_back({common, {one.to, two.to}});
            }
        return edges;
    };
    const auto accepts = [&](const Pair& at) { return a.states[at.first].accepts && b.states[at.second].accepts; };
    return explore(Pair{0, 0}, edges_of, accepts);
}

ApiResult<TextAutomaton> complement(const TextAutomaton& automaton) {
    const auto edges_of = [&](uint32_t at) {
        Edges edges;
        CharClass known;
        if (at != kNowhere)
            for (const auto& [range, to] : automaton.states[at].edges)
                edges.emplace_back(range, to), known.push_back(range);
        for (const CharRange& gap : others(known)) edges.emplace_back(gap, kNowhere);
        std::ranges::sort(edges, {}, [](const auto& edge) { return edge.first.first; });
        return edges;
    };
    const auto accepts = [&](uint32_t at) { return at == kNowhere || !automaton.states[at].accepts; };
    return explore(automaton.states.empty() ? kNowhere : 0U, edges_of, accepts);
}

ApiResult<TextAutomaton> texts_of_length(uint64_t least, std::optional<uint64_t> most) {
    const uint64_t end = most.value_or(least);
    const auto edges_of = [&](uint64_t at) {
        std::vector<std::pair<CharRange, uint64_t>> edges;
        if (at < end || !most)
            for (const CharRange& range : all_characters()) edges.emplace_back(range, std::min(at + 1, end));
        return edges;
    };
    return explore(uint64_t{0}, edges_of, [&](uint64_t at) { return at >= least; });
}

// States are sets of (text, place) that are still possible; a text that is given twice does no harm.
ApiResult<TextAutomaton> exactly(const std::vector<std::string>& texts) {
    std::vector<std::u32string> list;
    list.reserve(texts.size());
    for (const std::string& text : texts) list.push_back(code_points(text));
    using Prefix = std::u32string;
    const auto edges_of = [&](const Prefix& at) {
        std::set<char32_t> next;
        for (const auto& text : list)
            if (text.size() > at.size() && text.starts_with(at)) next.insert(text[at.size()]);
        std::vector<std::pair<CharRange, Prefix>> edges;
        for (const char32_t c : next)
            if (!normalized({{c, c}}).empty()) edges.push_back({{c, c}, at + c});
        return edges;
    };
    return explore(Prefix(), edges_of, [&](const Prefix& at) { return std::ranges::find(list, at) != list.end(); });
}

// ---- rules ---------------------------------------------------------------------------------------------------------

std::string rules_of(const TextAutomaton& automaton, const std::string& name, Writing writing) {
    const auto rule = [&](uint32_t state) { return state == 0 ? name : std::format("{}-{}", name, state); };
    std::string rules;
    for (uint32_t i = 0; i < automaton.states.size(); ++i) {
        std::map<uint32_t, CharClass> by_target;
        for (const auto& edge : automaton.states[i].edges) by_target[edge.to].push_back(edge.range);
        std::string body;
        if (automaton.states[i].accepts) body = writing == Writing::kJsonString ? R"("\"")" : R"("")";
        for (const auto& [to, ranges] : by_target)
            for (const std::string& characters : characters_of(ranges, writing))
                body += (body.empty() ? "" : " | ") + characters + " " + rule(to);
        rules += rule(i) + " ::= " + body + "\n";
    }
    return rules;
}

}  // namespace hypura::server
