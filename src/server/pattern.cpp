#include "server/pattern.h"

#include "server/explore.h"

#include <algorithm>
#include <array>
#include <format>
#include <memory>
#include <set>

namespace hypura::server {
namespace {

constexpr uint32_t kNoLimit = UINT32_MAX;
constexpr uint32_t kMostRepetitions = 5000;
constexpr size_t kMostNfaStates = 50000;
constexpr size_t kMostWork = 3000000;  // states in all sets of states together
constexpr int kDeepest = 100;          // groups within groups

std::unexpected<ApiError> bad_pattern(std::string_view pattern, std::string_view why) {
    return refuse(400, "JSON schema: the pattern \"{}\" {}", pattern, why);
}

// ---- syntax --------------------------------------------------------------------------------------------------------

struct Node {
    enum class Kind { kChars, kSequence, kChoice, kRepeat, kBegin, kEnd } kind = Kind::kSequence;
    std::vector<Node> parts;
    CharClass chars;
    uint32_t least = 0, most = 0;
};

struct LookAhead {
    Node what;
    bool wanted = true;
};

const CharClass kDigits = {{'0', '9'}};
const CharClass kWordCharacters = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CharClass kSpaces = {{9, 13},          {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
                           {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const CharClass kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

class PatternParser {
public:
    explicit PatternParser(std::string_view pattern) : pattern_(pattern), text_(code_points(pattern)) {}

    struct Parsed {
        Node node;
        std::vector<LookAhead> look_aheads;
    };
    ApiResult<Parsed> parse();

private:
    ApiResult<Node> choice();
    ApiResult<Node> sequence();
    ApiResult<Node> repeated(Node inner);
    ApiResult<Node> atom();
    ApiResult<Node> group();
    ApiResult<Node> escape();
    ApiResult<CharClass> escaped_class();
    ApiResult<char32_t> escaped_character();
    ApiResult<Node> bracket();
    ApiResult<CharClass> bracket_item();
    ApiResult<char32_t> hex(size_t digits);
    ApiResult<std::optional<std::pair<uint32_t, uint32_t>>> braces();

    bool done() const { return at_ >= text_.size(); }
    char32_t peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : U'\0'; }
    bool take(std::u32string_view word) {
        if (!std::u32string_view(text_).substr(std::min(at_, text_.size())).starts_with(word)) return false;
        at_ += word.size();
        return true;
    }
    std::unexpected<ApiError> bad(std::string_view why) const { return bad_pattern(pattern_, why); }

    std::string_view pattern_;
    std::u32string text_;
    size_t at_ = 0;
    int depth_ = 0;
};

Node chars(CharClass ranges) { return {Node::Kind::kChars, {}, normalized(std::move(ranges)), 0, 0}; }

ApiResult<PatternParser::Parsed> PatternParser::parse() {
    Parsed parsed;
    if (take(U"^")) {
        while (peek() == '(' && peek(1) == '?' && (peek(2) == '=' || peek(2) == '!')) {
            const bool wanted = peek(2) == '=';
            at_ += 3;
            HYPURA_ASSIGN(Node what, choice());
            if (!take(U")")) return bad("has a group that does not end");
            parsed.look_aheads.push_back({std::move(what), wanted});
        }
        if (parsed.look_aheads.empty()) at_ = 0;
    }
    HYPURA_ASSIGN(parsed.node, choice());
    if (!done()) return bad("has a \")\" too many");
    if (parsed.look_aheads.empty()) return parsed;
    if (parsed.node.kind == Node::Kind::kChoice) return bad("has look-ahead in one of several alternatives");
    parsed.node.parts.insert(parsed.node.parts.begin(), {Node::Kind::kBegin, {}, {}, 0, 0});
    return parsed;
}

ApiResult<Node> PatternParser::choice() {
    if (depth_ >= kDeepest) return bad("is nested too deeply");
    ++depth_;
    Node node{Node::Kind::kChoice, {}, {}, 0, 0};
    do {
        HYPURA_ASSIGN(Node part, sequence());
        node.parts.push_back(std::move(part));
    } while (take(U"|"));
    --depth_;
    if (node.parts.size() > 1) return node;
    Node only = std::move(node.parts[0]);
    return only;
}

ApiResult<Node> PatternParser::sequence() {
    Node node{Node::Kind::kSequence, {}, {}, 0, 0};
    while (!done() && peek() != '|' && peek() != ')') {
        HYPURA_ASSIGN(Node part, atom());
        HYPURA_ASSIGN(part, repeated(std::move(part)));
        node.parts.push_back(std::move(part));
    }
    return node;
}

ApiResult<Node> PatternParser::repeated(Node inner) {
    Node node{Node::Kind::kRepeat, {}, {}, 0, kNoLimit};
    if (take(U"+")) {
        node.least = 1;
    } else if (take(U"?")) {
        node.most = 1;
    } else if (!take(U"*")) {
        HYPURA_ASSIGN(const auto bounds, braces());
        if (!bounds) return inner;
        std::tie(node.least, node.most) = *bounds;
    }
    if (inner.kind == Node::Kind::kBegin || inner.kind == Node::Kind::kEnd) return bad("repeats an anchor");
    take(U"?");  // lazy: the texts are the same
    node.parts.push_back(std::move(inner));
    return node;
}

// "{2}", "{2,}", "{2,5}"; anything else is no repetition, but the character itself.
ApiResult<std::optional<std::pair<uint32_t, uint32_t>>> PatternParser::braces() {
    const size_t begin = at_;
    const auto number = [&]() -> std::optional<uint32_t> {
        if (peek() < '0' || peek() > '9') return std::nullopt;
        uint32_t value = 0;
        for (; peek() >= '0' && peek() <= '9'; ++at_)
            value = std::min(value * 10 + (peek() - '0'), kMostRepetitions + 1);
        return value;
    };
    if (!take(U"{")) return std::nullopt;
    const auto least = number();
    const bool comma = take(U",");
    const auto most = comma ? number() : least;
    if (!least || !take(U"}")) {
        at_ = begin;
        return std::nullopt;
    }
    if (*least > kMostRepetitions || most.value_or(0) > kMostRepetitions) return bad("repeats too often");
    if (most && *most < *least) return bad("has its bounds in the wrong order");
    return std::pair(*least, most.value_or(kNoLimit));
}

ApiResult<Node> PatternParser::atom() {
    if (peek() == '(') return group();
    if (peek() == '[') return bracket();
    if (peek() == '\\') return escape();
    if (take(U"^")) return Node{Node::Kind::kBegin, {}, {}, 0, 0};
    if (take(U"$")) return Node{Node::Kind::kEnd, {}, {}, 0, 0};
    if (take(U".")) return chars(others(kLineEnds));
    if (peek() == '*' || peek() == '+' || peek() == '?') return bad("repeats nothing");
    const char32_t c = text_[at_++];
    return chars({{c, c}});
}

ApiResult<Node> PatternParser::group() {
    take(U"(");
    if (take(U"?")) {
        if (peek() == '=' || peek() == '!') return bad("has look-ahead elsewhere than behind a \"^\" that begins it");
        if (peek() == '<' && (peek(1) == '=' || peek(1) == '!')) return bad("has look-behind");
        if (take(U"<")) {
            while (!done() && peek() != '>') ++at_;
            if (!take(U">")) return bad("has a group's name that does not end");
        } else if (!take(U":")) {
            return bad("has an unknown kind of group");
        }
    }
    HYPURA_ASSIGN(Node node, choice());
    if (!take(U")")) return bad("has a group that does not end");
    return node;
}

ApiResult<Node> PatternParser::escape() {
    const char32_t next = peek(1);
    if (next == 'b' || next == 'B') return bad("asks for word boundaries (\\b)");
    if (next == 'p' || next == 'P') return bad("asks for Unicode properties (\\p)");
    if ((next >= '1' && next <= '9') || next == 'k') return bad("has a back-reference");
    HYPURA_ASSIGN(CharClass ranges, escaped_class());
    return chars(std::move(ranges));
}

ApiResult<CharClass> PatternParser::escaped_class() {
    switch (peek(1)) {
        case 'd':
            return at_ += 2, kDigits;
        case 'D':
            return at_ += 2, others(kDigits);
        case 'w':
            return at_ += 2, kWordCharacters;
        case 'W':
            return at_ += 2, others(kWordCharacters);
        case 's':
            return at_ += 2, normalized(kSpaces);
        case 'S':
            return at_ += 2, others(kSpaces);
        default:
            break;
    }
    HYPURA_ASSIGN(const char32_t c, escaped_character());
    return CharClass{{c, c}};
}

ApiResult<char32_t> PatternParser::escaped_character() {
    ++at_;
    if (done()) return bad("ends with a backslash");
    const char32_t c = text_[at_++];
    switch (c) {
        case 't':
            return U'\t';
        case 'n':
            return U'\n';
        case 'r':
            return U'\r';
        case 'f':
            return U'\f';
        case 'v':
            return U'\v';
        case '0':
            return U'\0';
        case 'c':
            return done() ? U'\0' : text_[at_++] % 32;
        case 'x':
            return hex(2);
        case 'u': {
            if (!take(U"{")) return hex(4);
            const size_t end = text_.find(U'}', at_);
            if (end == std::u32string::npos) return bad("has a \\u{ that does not end");
            HYPURA_ASSIGN(const char32_t point, hex(end - at_));
            ++at_;
            return point;
        }
        default:
            return c;
    }
}

ApiResult<char32_t> PatternParser::hex(size_t digits) {
    char32_t value = 0;
    if (digits == 0 || digits > 6) return bad("has a bad character code");
    for (size_t i = 0; i < digits; ++i) {
        const char32_t c = peek();
        const char32_t lower = c | 0x20U;
        if ((c < '0' || c > '9') && (lower < 'a' || lower > 'f')) return bad("has a bad character code");
        value = value * 16 + (c <= '9' ? c - '0' : lower - 'a' + 10);
        ++at_;
    }
    return value;
}

ApiResult<Node> PatternParser::bracket() {
    take(U"[");
    const bool negated = take(U"^");
    CharClass ranges;
    while (!done() && peek() != ']') {
        HYPURA_ASSIGN(CharClass item, bracket_item());
        const bool is_range = peek() == '-' && peek(1) != ']' && at_ + 1 < text_.size();
        if (is_range && item.size() == 1 && item[0].first == item[0].last) {
            ++at_;
            HYPURA_ASSIGN(const CharClass end, bracket_item());
            if (end.size() != 1 || end[0].first != end[0].last || end[0].first < item[0].first)
                return bad("has a range of characters in the wrong order");
            item[0].last = end[0].first;
        }
        ranges.insert(ranges.end(), item.begin(), item.end());
    }
    if (!take(U"]")) return bad("has a \"[\" that does not end");
    return chars(negated ? others(normalized(std::move(ranges))) : std::move(ranges));
}

ApiResult<CharClass> PatternParser::bracket_item() {
    if (peek() != '\\') {
        const char32_t c = text_[at_++];
        return CharClass{{c, c}};
    }
    if (peek(1) == 'b') return at_ += 2, CharClass{{8, 8}};
    if (peek(1) == 'p' || peek(1) == 'P') return bad("asks for Unicode properties (\\p)");
    return escaped_class();
}

// ---- automata ------------------------------------------------------------------------------------------------------

// Thompson's construction. Anchors are free edges that may be taken at the beginning or at the end only.
class Nfa {
public:
    // Texts that contain a match.
    static ApiResult<TextAutomaton> matching(const Node& node);

private:
    enum class Need { kNothing, kBegin, kEnd };
    struct Free {
        uint32_t to;
        Need need;
    };
    struct State {
        std::vector<Free> free;
        std::vector<std::pair<CharRange, uint32_t>> edges;
    };
    using Set = std::vector<uint32_t>;  // ascending

    bool full() const { return states_.size() > kMostNfaStates; }
    uint32_t add() { return states_.emplace_back(), static_cast<uint32_t>(states_.size() - 1); }
    void link(uint32_t from, uint32_t to, Need need = Need::kNothing) { states_[from].free.push_back({to, need}); }
    void link_any(uint32_t from, uint32_t to) {
        for (const CharRange& range : all_characters()) states_[from].edges.emplace_back(range, to);
    }
    uint32_t append(const Node& node, uint32_t from);
    uint32_t append_repeat(const Node& node, uint32_t from);
    Set closure(Set set, bool at_begin, bool at_end) const;
    std::vector<std::pair<CharRange, Set>> edges_of(const Set& set) const;

    std::vector<State> states_;
};

// Writes `node` behind the state `from`; returns where it ends.
uint32_t Nfa::append(const Node& node, uint32_t from) {
    if (full()) return from;
    switch (node.kind) {
        case Node::Kind::kSequence: {
            for (const Node& part : node.parts) from = append(part, from);
            return from;
        }
        case Node::Kind::kRepeat:
            return append_repeat(node, from);
        case Node::Kind::kChoice: {
            const uint32_t end = add();
            for (const Node& part : node.parts) {
                const uint32_t begin = add();
                link(from, begin);
                link(append(part, begin), end);
            }
            return end;
        }
        case Node::Kind::kChars: {
            const uint32_t end = add();
            for (const CharRange& range : node.chars) states_[from].edges.emplace_back(range, end);
            return end;
        }
        case Node::Kind::kBegin:
        case Node::Kind::kEnd: {
            const uint32_t end = add();
            link(from, end, node.kind == Node::Kind::kBegin ? Need::kBegin : Need::kEnd);
            return end;
        }
    }
    return from;
}

uint32_t Nfa::append_repeat(const Node& node, uint32_t from) {
    const Node& inner = node.parts[0];
    for (uint32_t i = 0; i < node.least && !full(); ++i) from = append(inner, from);
    if (node.most == kNoLimit) {
        const uint32_t loop = add();
        link(from, loop);
        link(append(inner, loop), loop);
        return loop;
    }
    const uint32_t end = add();
    for (uint32_t i = node.least; i < node.most && !full(); ++i) {
        link(from, end);
        const uint32_t next = add();
        link(from, next);
        from = append(inner, next);
    }
    link(from, end);
    return end;
}

Nfa::Set Nfa::closure(Set set, bool at_begin, bool at_end) const {
    std::set<uint32_t> found(set.begin(), set.end());
    while (!set.empty()) {
        const uint32_t state = set.back();
        set.pop_back();
        for (const auto& [to, need] : states_[state].free) {
            if ((need == Need::kBegin && !at_begin) || (need == Need::kEnd && !at_end)) continue;
            if (found.insert(to).second) set.push_back(to);
        }
    }
    return {found.begin(), found.end()};
}

// The line of characters is cut wherever some edge begins or ends; each piece leads to one set.
std::vector<std::pair<CharRange, Nfa::Set>> Nfa::edges_of(const Set& set) const {
    std::map<char32_t, std::pair<Set, Set>> cuts;  // character -> targets that begin, and that have ended, here
    for (const uint32_t state : set)
        for (const auto& [range, to] : states_[state].edges) {
            cuts[range.first].first.push_back(to);
            cuts[range.last + 1].second.push_back(to);
        }
    std::vector<std::pair<CharRange, Set>> edges;
    std::multiset<uint32_t> open;
    for (auto cut = cuts.begin(); cut != cuts.end(); ++cut) {
        for (const uint32_t to : cut->second.second) open.erase(open.find(to));
        open.insert(cut->second.first.begin(), cut->second.first.end());
        if (open.empty()) continue;
        const std::set<uint32_t> targets(open.begin(), open.end());
        edges.emplace_back(CharRange{cut->first, std::next(cut)->first - 1},
                           closure({targets.begin(), targets.end()}, false, false));
    }
    return edges;
}

ApiResult<TextAutomaton> Nfa::matching(const Node& node) {
    Nfa nfa;
    const uint32_t before = nfa.add();
    nfa.link_any(before, before);
    const uint32_t begin = nfa.add();
    nfa.link(before, begin);
    const uint32_t end = nfa.append(node, begin);
    nfa.link_any(end, end);
    if (nfa.full()) return too_complicated();
    size_t work = 0;
    // A set at the beginning may use "^", which matters for its end as well: the flag is part of the key.
    using Key = std::pair<bool, Set>;
    const auto edges_of = [&](const Key& key) {
        std::vector<std::pair<CharRange, Key>> edges;
        work += key.second.size();
        if (work > kMostWork) return edges;
        for (auto& [range, set] : nfa.edges_of(key.second)) edges.push_back({range, {false, std::move(set)}});
        return edges;
    };
    const auto accepts = [&](const Key& key) {
        return std::ranges::binary_search(nfa.closure(key.second, key.first, true), end);
    };
    auto automaton = explore(Key{true, nfa.closure({before}, true, false)}, edges_of, accepts);
    if (work > kMostWork) return too_complicated();
    return automaton;
}

// What follows "^" in "^(?=...)".
Node anchored(Node node) {
    Node sequence{Node::Kind::kSequence, {}, {}, 0, 0};
    sequence.parts.push_back({Node::Kind::kBegin, {}, {}, 0, 0});
    sequence.parts.push_back(std::move(node));
    return sequence;
}

// ---- formats -------------------------------------------------------------------------------------------------------

constexpr std::string_view kDate =
    R"((?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))|)"
    R"((?:\d\d[2468][048]|\d\d[13579][26]|\d\d0[48]|[02468][048]00|[13579][26]00)-02-29))";
constexpr std::string_view kTime =
    R"((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d))";
constexpr std::string_view kOctet = R"((?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))";
constexpr std::string_view kLabel = R"([A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)";
constexpr std::string_view kUriCharacter = R"((?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2}))";

std::string ipv6_pattern() {
    std::string alternatives = "(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}";
    for (int before = 0; before <= 7; ++before) {
        const int after = 7 - before;
        const std::string left = before == 0 ? ":" : std::format("(?:[0-9A-Fa-f]{{1,4}}:){{{}}}", before);
        const std::string right =
            after == 0 ? "" : std::format("(?:[0-9A-Fa-f]{{1,4}}(?::[0-9A-Fa-f]{{1,4}}){{0,{}}})?", after - 1);
        alternatives += std::format("|{}:{}", left, right);
    }
    return std::format("^(?:{})$", alternatives);
}

using FormatTable = std::map<std::string, std::string, std::less<>>;

// Where a standard allows more than is useful (quoted local parts of addresses, weeks in durations beside days), texts
// are held to the common part: they are valid all the same.
FormatTable make_formats() {
    FormatTable table;
    table["date"] = std::format("^{}$", kDate);
    table["time"] = std::format("^{}$", kTime);
    table["date-time"] = std::format("^{}T{}$", kDate, kTime);
    table["duration"] =
        R"(^P(?:\d+W|(?:\d+Y(?:\d+M(?:\d+D)?)?|\d+M(?:\d+D)?|\d+D)(?:T(?:\d+H(?:\d+M(?:\d+S)?)?|\d+M(?:\d+S)?|\d+S))?|T(?:\d+H(?:\d+M(?:\d+S)?)?|\d+M(?:\d+S)?|\d+S))$)";
    table["uuid"] = table["guid"] = "^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$";
    table["email"] = table["idn-email"] =
        std::format(R"(^[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@(?:{}\.)+[A-Za-z]{{2,24}}$)", kLabel);
    table["hostname"] = table["idn-hostname"] = std::format(R"(^{}(?:\.{}){{0,3}}$)", kLabel, kLabel);
    table["ipv4"] = std::format(R"(^{}(?:\.{}){{3}}$)", kOctet, kOctet);
    table["ipv6"] = ipv6_pattern();
    const std::string rest =
        std::format(R"({}*(?:\?(?:{}|\?)*)?(?:#(?:{}|\?)*)?)", kUriCharacter, kUriCharacter, kUriCharacter);
    table["uri"] = table["iri"] = table["url"] =
        std::format(R"(^(?:https?|ftps?|wss?)://{}(?:\.{}){{0,3}}(?::\d{{1,4}})?(?:/{})?$)", kLabel, kLabel, rest);
    table["uri-reference"] = table["iri-reference"] =
        std::format(R"(^(?:\.{{0,2}}/)?(?:[A-Za-z0-9._~-]+/)*[A-Za-z0-9._~-]*$)");
    table["json-pointer"] = R"(^(?:/(?:[^~/"\\\x00-\x1F]|~[01])*)*$)";
    table["byte"] = table["base64"] = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$";
    table["int64"] = "^(?:0|-?[1-9][0-9]{0,17})$";  // of numbers written as strings
    table["uint64"] = "^(?:0|[1-9][0-9]{0,17})$";
    return table;
}

const FormatTable& formats() {
    static const FormatTable kTable = make_formats();
    return kTable;
}

}  // namespace

ApiResult<TextAutomaton> automaton_of_pattern(std::string_view pattern) {
    HYPURA_ASSIGN(const PatternParser::Parsed parsed, PatternParser(pattern).parse());
    HYPURA_ASSIGN(TextAutomaton automaton, Nfa::matching(parsed.node));
    for (const LookAhead& look_ahead : parsed.look_aheads) {
        HYPURA_ASSIGN(TextAutomaton seen, Nfa::matching(anchored(look_ahead.what)));
        if (!look_ahead.wanted) {
            HYPURA_ASSIGN(seen, complement(seen));
        }
        HYPURA_ASSIGN(automaton, intersection(automaton, seen));
    }
    if (automaton.states.empty()) return bad_pattern(pattern, "matches no text");
    return automaton;
}

std::optional<std::string_view> pattern_of_format(std::string_view format) {
    const auto entry = formats().find(format);
    return entry == formats().end() ? std::nullopt : std::optional<std::string_view>(entry->second);
}

std::string known_formats() {
    std::string names;
    for (const auto& [name, pattern] : formats()) names += (names.empty() ? "" : ", ") + name;
    return names;
}

}  // namespace hypura::server
