// Decides whether a text is in the language of a grammar in llama.cpp's GBNF notation: a backtracking matcher for the
// short texts of tests. Knows what schema_grammar.cpp writes: literals, classes, groups, *, ?, {m,n}, alternatives. It
// also writes random texts of the language.
#pragma once

#include "server/text_automaton.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace hypura::server {

class GbnfMatcher {
public:
    explicit GbnfMatcher(const std::string& grammar) {
        std::istringstream lines(grammar);
        for (std::string line; std::getline(lines, line);) {
            const size_t at = line.find(" ::= ");
            EXPECT_NE(at, std::string::npos) << line;
            rest_ = code_points(line.substr(at + 5));
            at_ = 0;
            rules_[line.substr(0, at)] = alternatives();
            EXPECT_EQ(at_, rest_.size()) << "not understood: " << line;
        }
    }

    bool matches(const std::string& utf8) const {
        const std::u32string text = code_points(utf8);
        return match(*rules_.at("root"), text, 0, [&](size_t end) { return end == text.size(); });
    }

    // A random text; repetitions without a bound and deep rules are kept short, where the grammar has a short way.
    std::string generate(std::mt19937& random) const {
        std::string text;
        write(*rules_.at("root"), text, random, 0);
        return text;
    }

private:
    struct Node {
        enum class Kind { kAny, kAll, kRepeat, kLiteral, kClass, kRule } kind;
        std::vector<std::shared_ptr<Node>> parts;
        std::string text;                                   // a rule's name
        std::u32string literal;                             // of a literal
        std::vector<std::pair<char32_t, char32_t>> ranges;  // of a class
        bool negated = false;
        size_t least = 0, most = 0;
    };
    using NodePointer = std::shared_ptr<Node>;
    using Next = std::function<bool(size_t)>;

    // ---- reading
    // -----------------------------------------------------------------------------------------------------
    char32_t peek() const { return at_ < rest_.size() ? rest_[at_] : U'\0'; }
    void skip() {
        while (peek() == ' ') ++at_;
    }
    NodePointer alternatives() {
        auto any = std::make_shared<Node>(Node{Node::Kind::kAny});
        any->parts.push_back(sequence());
        while (peek() == '|') {
            ++at_;
            any->parts.push_back(sequence());
        }
        return any;
    }
    NodePointer sequence() {
        auto all = std::make_shared<Node>(Node{Node::Kind::kAll});
        for (skip(); peek() != '\0' && peek() != '|' && peek() != ')'; skip()) all->parts.push_back(repeated(atom()));
        return all;
    }
    NodePointer atom() {
        if (peek() == '(') {
            ++at_;
            auto group = alternatives();
            EXPECT_EQ(peek(), ')');
            ++at_;
            return group;
        }
        if (peek() == '"') return literal();
        if (peek() == '[') return character_class();
        auto rule = std::make_shared<Node>(Node{Node::Kind::kRule});
        while (peek() < 128 && (std::isalnum(static_cast<int>(peek())) != 0 || peek() == '-'))
            rule->text += static_cast<char>(rest_[at_++]);
        EXPECT_FALSE(rule->text.empty()) << "at character " << at_;
        if (rule->text.empty()) ++at_;
        return rule;
    }
    char32_t escaped() {
        if (peek() != '\\') return rest_[at_++];
        ++at_;
        const char32_t c = rest_[at_++];
        if (const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0; digits > 0) {
            char32_t code = 0;
            for (size_t i = 0; i < digits; ++i)
                code = code * 16 +
                       static_cast<char32_t>(std::stoi(std::string(1, static_cast<char>(rest_[at_++])), nullptr, 16));
            return code;
        }
        return c == 'n' ? U'\n' : c == 'r' ? U'\r' : c == 't' ? U'\t' : c;
    }
    NodePointer literal() {
        auto node = std::make_shared<Node>(Node{Node::Kind::kLiteral});
        for (++at_; peek() != '"';) node->literal += escaped();
        ++at_;
        return node;
    }
    NodePointer character_class() {
        auto node = std::make_shared<Node>(Node{Node::Kind::kClass});
        ++at_;
        if (peek() == '^') node->negated = true, ++at_;
        while (peek() != ']') {
            const char32_t from = escaped();
            char32_t to = from;
            if (peek() == '-' && rest_[at_ + 1] != ']') ++at_, to = escaped();
            node->ranges.emplace_back(from, to);
        }
        ++at_;
        return node;
    }
    NodePointer repeated(NodePointer inner) {
        constexpr size_t kAny = 1U << 20U;
        size_t least = 1, most = 1;
        if (peek() == '*')
            least = 0, most = kAny, ++at_;
        else if (peek() == '?')
            least = 0, ++at_;
        else if (peek() == '{')
            read_bounds(least, most, kAny);
        else
            return inner;
        auto node = std::make_shared<Node>(Node{Node::Kind::kRepeat, {std::move(inner)}});
        node->least = least;
        node->most = most;
        return node;
    }
    void read_bounds(size_t& least, size_t& most, size_t any) {
        ++at_;
        const size_t end = rest_.find(U'}', at_), comma = rest_.find(U',', at_);
        const auto number = [this](size_t from) {
            size_t value = 0;
            for (; from < rest_.size() && rest_[from] >= '0' && rest_[from] <= '9'; ++from)
                value = value * 10 + (rest_[from] - '0');
            return value;
        };
        least = number(at_);
        if (comma > end)
            most = least;
        else
            most = comma + 1 == end ? any : number(comma + 1);
        at_ = end + 1;
    }

    // ---- matching
    // ----------------------------------------------------------------------------------------------------
    bool match(const Node& node, const std::u32string& text, size_t at, const Next& next) const {
        switch (node.kind) {
            case Node::Kind::kAny:
                for (const auto& part : node.parts)
                    if (match(*part, text, at, next)) return true;
                return false;
            case Node::Kind::kAll:
                return match_all(node, 0, text, at, next);
            case Node::Kind::kRepeat:
                return match_repeat(node, 0, text, at, next);
            case Node::Kind::kLiteral:
                return text.compare(at, node.literal.size(), node.literal) == 0 && next(at + node.literal.size());
            case Node::Kind::kClass:
                return at < text.size() && holds(node, text[at]) && next(at + 1);
            case Node::Kind::kRule:
                return match(*rules_.at(node.text), text, at, next);
        }
        return false;
    }
    bool match_all(const Node& node, size_t index, const std::u32string& text, size_t at, const Next& next) const {
        if (index == node.parts.size()) return next(at);
        return match(*node.parts[index], text, at,
                     [&, index](size_t end) { return match_all(node, index + 1, text, end, next); });
    }
    bool match_repeat(const Node& node, size_t done, const std::u32string& text, size_t at, const Next& next) const {
        const bool more = done < node.most && match(
                                                  *node.parts[0], text, at,
                                                  [&, done, at](size_t end) {
                                                      return end > at && match_repeat(node, done + 1, text, end, next);
                                                  });
        return more || (done >= node.least && next(at));
    }

    static bool holds(const Node& node, char32_t c) {
        const bool listed =
            std::ranges::any_of(node.ranges, [c](const auto& range) { return range.first <= c && c <= range.second; });
        return listed != node.negated;
    }

    // ---- writing
    // -----------------------------------------------------------------------------------------------------
    static constexpr int kDeep = 60;
    static void append(std::string& text, char32_t c) {
        if (c < 0x80) {
            text += static_cast<char>(c);
        } else if (c < 0x800) {
            text += {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
        } else if (c < 0x10000) {
            text += {static_cast<char>(0xE0 | (c >> 12)), static_cast<char>(0x80 | ((c >> 6) & 0x3F)),
                     static_cast<char>(0x80 | (c & 0x3F))};
        } else {
            text += {static_cast<char>(0xF0 | (c >> 18)), static_cast<char>(0x80 | ((c >> 12) & 0x3F)),
                     static_cast<char>(0x80 | ((c >> 6) & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
        }
    }
    char32_t character(const Node& node, std::mt19937& random) const {
        for (int i = 0; node.negated && i < 1000; ++i)
            if (const auto c = static_cast<char32_t>(0x20 + random() % 0x60); holds(node, c)) return c;
        const auto& [from, to] = node.ranges[random() % node.ranges.size()];
        return from + static_cast<char32_t>(random() % std::min<char32_t>(to - from + 1, 300));
    }
    // Steps to the end of a rule by its shortest way, so that deep texts can be brought to an end.
    size_t depth_of(const Node& node, int limit) const {
        constexpr size_t kFar = 1U << 20U;
        if (limit == 0) return kFar;
        switch (node.kind) {
            case Node::Kind::kAny: {
                size_t least = kFar;
                for (const auto& part : node.parts) least = std::min(least, depth_of(*part, limit));
                return least;
            }
            case Node::Kind::kAll: {
                size_t most = 0;
                for (const auto& part : node.parts) most = std::max(most, depth_of(*part, limit));
                return most;
            }
            case Node::Kind::kRepeat:
                return node.least == 0 ? 0 : depth_of(*node.parts[0], limit);
            case Node::Kind::kRule:
                return 1 + depth_of(*rules_.at(node.text), limit - 1);
            default:
                return 0;
        }
    }
    void write(const Node& node, std::string& text, std::mt19937& random, int depth) const {
        switch (node.kind) {
            case Node::Kind::kAny: {
                const Node* way = node.parts[random() % node.parts.size()].get();
                if (depth > kDeep)
                    for (const auto& part : node.parts)
                        if (depth_of(*part, 6) < depth_of(*way, 6)) way = part.get();
                return write(*way, text, random, depth);
            }
            case Node::Kind::kAll:
                for (const auto& part : node.parts) write(*part, text, random, depth);
                return;
            case Node::Kind::kRepeat: {
                const size_t room = depth > kDeep ? 0 : std::min<size_t>(node.most - node.least, 4);
                const size_t times = node.least + random() % (room + 1);
                for (size_t i = 0; i < times; ++i) write(*node.parts[0], text, random, depth + 1);
                return;
            }
            case Node::Kind::kLiteral:
                for (const char32_t c : node.literal) append(text, c);
                return;
            case Node::Kind::kClass:
                return append(text, character(node, random));
            case Node::Kind::kRule:
                return write(*rules_.at(node.text), text, random, depth + 1);
        }
    }

    std::map<std::string, NodePointer> rules_;
    std::u32string rest_;
    size_t at_ = 0;
};

}  // namespace hypura::server
