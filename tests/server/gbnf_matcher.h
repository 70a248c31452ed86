// Decides whether a text is in the language of a grammar in llama.cpp's GBNF notation: a backtracking matcher for the
// short texts of tests. Knows what schema_grammar.cpp writes: literals, classes, groups, *, ?, {m,n}, alternatives.
#pragma once

#include <gtest/gtest.h>

#include <cctype>
#include <functional>
#include <map>
#include <memory>
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
            rest_ = line.substr(at + 5);
            at_ = 0;
            rules_[line.substr(0, at)] = alternatives();
            EXPECT_EQ(at_, rest_.size()) << "not understood: " << line;
        }
    }

    bool matches(const std::string& text) const {
        return match(*rules_.at("root"), text, 0, [&](size_t end) { return end == text.size(); });
    }

private:
    struct Node {
        enum class Kind { kAny, kAll, kRepeat, kLiteral, kClass, kRule } kind;
        std::vector<std::shared_ptr<Node>> parts;
        std::string text;  // of a literal, class or rule's name
        bool negated = false;
        size_t least = 0, most = 0;
    };
    using NodePointer = std::shared_ptr<Node>;
    using Next = std::function<bool(size_t)>;

    // ---- reading
    // -----------------------------------------------------------------------------------------------------
    char peek() const { return at_ < rest_.size() ? rest_[at_] : '\0'; }
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
        while (std::isalnum(static_cast<unsigned char>(peek())) != 0 || peek() == '-') rule->text += rest_[at_++];
        EXPECT_FALSE(rule->text.empty()) << "at " << rest_.substr(at_);
        if (rule->text.empty()) ++at_;
        return rule;
    }
    char escaped() {
        if (peek() != '\\') return rest_[at_++];
        ++at_;
        const char c = rest_[at_++];
        if (c == 'x') {
            const char code = static_cast<char>(std::stoi(rest_.substr(at_, 2), nullptr, 16));
            at_ += 2;
            return code;
        }
        return c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
    }
    NodePointer literal() {
        auto node = std::make_shared<Node>(Node{Node::Kind::kLiteral});
        for (++at_; peek() != '"';) node->text += escaped();
        ++at_;
        return node;
    }
    NodePointer character_class() {
        auto node = std::make_shared<Node>(Node{Node::Kind::kClass});
        ++at_;
        if (peek() == '^') node->negated = true, ++at_;
        while (peek() != ']') {
            const char from = escaped();
            char to = from;
            if (peek() == '-' && rest_[at_ + 1] != ']') ++at_, to = escaped();
            for (int c = from; c <= to; ++c) node->text += static_cast<char>(c);
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
        const size_t end = rest_.find('}', at_), comma = rest_.find(',', at_);
        least = std::stoul(rest_.substr(at_));
        if (comma > end)
            most = least;
        else
            most = comma + 1 == end ? any : std::stoul(rest_.substr(comma + 1));
        at_ = end + 1;
    }

    // ---- matching
    // ----------------------------------------------------------------------------------------------------
    bool match(const Node& node, const std::string& text, size_t at, const Next& next) const {
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
                return text.compare(at, node.text.size(), node.text) == 0 && next(at + node.text.size());
            case Node::Kind::kClass:
                return at < text.size() && node.text.contains(text[at]) != node.negated && next(at + 1);
            case Node::Kind::kRule:
                return match(*rules_.at(node.text), text, at, next);
        }
        return false;
    }
    bool match_all(const Node& node, size_t index, const std::string& text, size_t at, const Next& next) const {
        if (index == node.parts.size()) return next(at);
        return match(*node.parts[index], text, at,
                     [&, index](size_t end) { return match_all(node, index + 1, text, end, next); });
    }
    bool match_repeat(const Node& node, size_t done, const std::string& text, size_t at, const Next& next) const {
        const bool more = done < node.most && match(
                                                  *node.parts[0], text, at,
                                                  [&, done, at](size_t end) {
                                                      return end > at && match_repeat(node, done + 1, text, end, next);
                                                  });
        return more || (done >= node.least && next(at));
    }

    std::map<std::string, NodePointer> rules_;
    std::string rest_;
    size_t at_ = 0;
};

}  // namespace hypura::server
