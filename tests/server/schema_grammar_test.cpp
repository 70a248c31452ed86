// Grammars from schemas. That libllama accepts them, and holds a model to them, is tested with the engine
// (grammar_engine_test.cpp and the conformance tests); here a small matcher of our own reads the notation.
#include "server/schema_grammar.h"
#include "server/gbnf_matcher.h"

#include <gtest/gtest.h>

namespace hypura::server {
namespace {

bool accepts(const std::string& schema, const std::string& text) {
    const auto grammar = grammar_of_schema(schema);
    EXPECT_TRUE(grammar.has_value()) << grammar.error().message;
    return grammar && GbnfMatcher(*grammar).matches(text);
}

TEST(SchemaGrammar, Objects) {
    const std::string schema = R"({"$schema":"x","type":"object","properties":{"name":{"type":"string"},
        "age":{"type":"integer"},"tall":{"type":"boolean"}},"required":["name","age"]})";
    EXPECT_TRUE(accepts(schema, R"({"name": "Mia", "age": 3})"));
    EXPECT_TRUE(accepts(schema, R"({"name":"Mia","age":3,"tall":true})"));
    EXPECT_FALSE(accepts(schema, R"({"name":"Mia"})"));
    EXPECT_FALSE(accepts(schema, R"({"name":"Mia","age":"3"})"));
    EXPECT_FALSE(accepts(schema, R"({"name":"Mia","age":3,"more":1})"));
    EXPECT_FALSE(accepts(schema, R"({"name":"Mia","age":3} and more)"));
}

TEST(SchemaGrammar, ObjectsWithoutProperties) {
    EXPECT_TRUE(accepts(R"({"type":"object"})", R"({"any":[1]})"));
    EXPECT_FALSE(accepts(R"({"type":"object","properties":{}})", R"({"any":1})"));
    EXPECT_TRUE(accepts(R"({"type":"object","properties":{}})", "{}"));
    EXPECT_FALSE(accepts(R"({"type":"object","additionalProperties":false})", R"({"any":1})"));
    EXPECT_TRUE(accepts(R"({"type":"object","additionalProperties":{"type":"integer"}})", R"({"any":1,"b":2})"));
    EXPECT_FALSE(accepts(R"({"type":"object","additionalProperties":{"type":"integer"}})", R"({"any":"x"})"));
}

TEST(SchemaGrammar, OptionalMembersKeepTheirCommas) {
    const std::string schema =
        R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"},"c":{"type":"null"}}})";
    for (const char* text : {"{}", R"({"a":null})", R"({"b":null})", R"({"a":null,"c":null})",
                             R"({"b":null, "c":null})", R"({"a":null,"b":null,"c":null})"})
        EXPECT_TRUE(accepts(schema, text)) << text;
    for (const char* text : {"{,}", R"({"a":null,})", R"({"c":null,"a":null})"})
        EXPECT_FALSE(accepts(schema, text)) << text;
}

TEST(SchemaGrammar, ArraysAndTheirLengths) {
    EXPECT_TRUE(accepts(R"({"type":"array","items":{"type":"integer"}})", "[]"));
    EXPECT_TRUE(accepts(R"({"type":"array","items":{"type":"integer"}})", "[1, 2,3]"));
    const std::string two = R"({"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3})";
    EXPECT_FALSE(accepts(two, "[1]"));
    EXPECT_TRUE(accepts(two, "[1,2,3]"));
    EXPECT_FALSE(accepts(two, "[1,2,3,4]"));
    EXPECT_TRUE(accepts(R"({"prefixItems":[{"type":"string"},{"type":"integer"}]})", R"(["a",1])"));
}

TEST(SchemaGrammar, ChoicesConstantsAndUnions) {
    EXPECT_TRUE(accepts(R"({"enum":["red","gr\"een",3]})", "\"gr\\\"een\""));
    EXPECT_FALSE(accepts(R"({"enum":["red"]})", "\"blue\""));
    EXPECT_TRUE(accepts(R"({"const":{"a":1}})", R"({"a":1})"));
    EXPECT_TRUE(accepts(R"({"type":["string","null"]})", "null"));
    EXPECT_TRUE(accepts(R"({"anyOf":[{"type":"integer"},{"type":"boolean"}]})", "false"));
    EXPECT_TRUE(accepts(R"({"allOf":[{"properties":{"a":{"type":"null"}},"required":["a"]},
        {"properties":{"b":{"type":"null"}}}]})",
                        R"({"a":null,"b":null})"));
    EXPECT_TRUE(accepts(R"({"type":"string","minLength":2,"maxLength":3})", "\"abc\""));
    EXPECT_FALSE(accepts(R"({"type":"string","minLength":2,"maxLength":3})", "\"a\""));
}

TEST(SchemaGrammar, References) {
    const std::string tree = R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{
        "children":{"type":"array","items":{"$ref":"#/$defs/node"}}},"required":["children"]}}})";
    EXPECT_TRUE(accepts(tree, R"({"children":[{"children":[]},{"children":[]}]})"));
    EXPECT_FALSE(accepts(tree, R"({"children":[1]})"));
    EXPECT_EQ(grammar_of_schema(R"({"$ref":"#/nowhere"})").error().status, 400);
    EXPECT_EQ(grammar_of_schema("{oops").error().status, 400);
    EXPECT_EQ(grammar_of_schema(R"({"type":"colour"})").error().status, 400);
}

TEST(SchemaGrammar, AnyObject) {
    const GbnfMatcher matcher(grammar_of_json_object());
    EXPECT_TRUE(matcher.matches(R"({"a": [1, 2.5e3, "x\n", {"b": null}], "c": {}})"));
    EXPECT_FALSE(matcher.matches("[1]"));
}

TEST(ToolGrammar, EveryNotationIsWhatItsParserReads) {
    const std::vector<Tool> tools = {
        {"f", R"({"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]})", ""}, {"g", "{}", ""}};
    const auto matches = [&](ToolStyle style, const std::string& text) {
        return GbnfMatcher(*grammar_of_tool_calls(style, tools, "", true)).matches(text);
    };
    EXPECT_TRUE(matches(ToolStyle::kHermes, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":1}}\n</tool_call>"));
    EXPECT_TRUE(matches(ToolStyle::kMistral,
                        "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\":1}}, "
                        "{\"name\": \"g\", \"arguments\": {}}]"));
    EXPECT_TRUE(matches(ToolStyle::kLlama, "{\"name\": \"g\", \"parameters\": {}}"));
    EXPECT_TRUE(matches(ToolStyle::kFunction, "<function=f>{\"a\":1}</function>"));
    EXPECT_FALSE(matches(ToolStyle::kHermes, "no call"));
    EXPECT_FALSE(GbnfMatcher(*grammar_of_tool_calls(ToolStyle::kLlama, tools, "g", true))
                     .matches("{\"name\": \"f\", \"parameters\": {\"a\":1}}"));
    EXPECT_FALSE(grammar_of_tool_calls(ToolStyle::kLlama, tools, "h", true).has_value());
}

TEST(ThinkingGrammar, ThinkingIsFreeAndTheAnswerIsNot) {
    const TemplateFamily family = template_family("<think> </think>");
    const GbnfMatcher may(allow_thinking("root ::= \"yes\"\n", family, false));
    EXPECT_TRUE(may.matches("yes"));
    EXPECT_TRUE(may.matches("<think>a < b, </p> or </thin</think>\n\nyes"));
    EXPECT_FALSE(may.matches("<think>hm</think>no"));
    const GbnfMatcher inside(allow_thinking("root ::= \"yes\"\n", family, true));
    EXPECT_TRUE(inside.matches("hm</think>yes"));
    EXPECT_FALSE(inside.matches("yes"));
    EXPECT_EQ(allow_thinking("root ::= \"yes\"\n", {}, false), "root ::= \"yes\"\n");
}

}  // namespace
}  // namespace hypura::server
