// Grammars from schemas, read by a small matcher of our own, and by libllama. That they hold a model to the schema is
// shown by the conformance tests.
#include "server/schema_grammar.h"
#include "engine/sampler.h"
#include "server/answer_parser.h"
#include "server/gbnf_matcher.h"
#include "server/schema_validator.h"

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

// ---- every keyword -------------------------------------------------------------------------------------------------

struct Kept {
    const char* schema;
    std::vector<const char*> fitting;
    std::vector<const char*> unfit;
};

const std::vector<Kept>& kept_schemas() {
    static const std::vector<Kept> kList = {
        {R"({"type":"string","pattern":"^[a-z]{2}-\\d+$"})", {R"("ab-1")"}, {R"("ab-")", R"("xab-1")"}},
        {R"({"type":"string","pattern":"b+"})", {R"("abc")"}, {R"("ac")"}},
        {R"({"type":"string","pattern":"^[\"\\\\/]$"})", {R"("\"")", R"("\\")"}, {R"("a")"}},
        {R"({"type":"string","pattern":"^a*$","minLength":2,"maxLength":4})", {R"("aaa")"}, {R"("a")", R"("aaaaa")"}},
        {R"({"type":"string","minLength":3,"maxLength":3})", {R"("äöü")", R"("a\nb")"}, {R"("ab")"}},
        {R"({"type":"string","maxLength":450})", {R"("")"}, {}},
        {R"({"type":"string","minLength":250})", {}, {R"("a")"}},
        {R"({"type":"integer","minimum":18,"maximum":120})", {"18", "120", "99"}, {"17", "121", "18.0", "-20"}},
        {R"({"type":"integer","exclusiveMinimum":0})", {"1", "1000"}, {"0", "-1"}},
        {R"({"type":"integer","minimum":5,"exclusiveMinimum":true})", {"6"}, {"5"}},
        {R"({"type":"number","minimum":0,"maximum":1})", {"0", "0.25", "1", "1.0"}, {"1.01", "-0.1", "1e9"}},
        {R"({"type":"number","exclusiveMaximum":-2.5})", {"-2.51", "-3"}, {"-2.5", "0"}},
        {R"({"type":"integer","multipleOf":5,"minimum":-20,"maximum":20})", {"-15", "0"}, {"3", "25"}},
        {R"({"type":"number","multipleOf":0.01,"minimum":0})", {"1.25", "3"}, {"1.255"}},
        {R"({"type":"integer","format":"int32"})", {"2147483647"}, {"2147483648"}},
        {R"({"type":"string","format":"date"})", {R"("2026-11-23")"}, {R"("2026-13-01")", R"("")"}},
        {R"({"type":"string","format":"date-time"})", {R"("2026-11-23T10:00:00Z")"}, {R"("now")"}},
        {R"({"type":"string","format":"uuid"})", {R"("123e4567-e89b-12d3-a456-426614174000")"}, {R"("1")"}},
        {R"({"type":"string","format":"email","maxLength":12})", {R"("a@b.org")"}, {R"("abcdefgh@b.org")"}},
        {R"({"type":"string","format":"cuid2","pattern":"^[0-9a-z]+$"})", {R"("a1")"}, {R"("A")"}},
        {R"({"type":"string","format":"password"})", {R"("any")"}, {}},
        {R"({"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"string"}})",
         {R"({"a":1,"b":"x"})", R"({"b":"x"})", "{}"},
         {R"({"b":1})", R"({"a":"x"})"}},
        {R"({"type":"object","additionalProperties":{"type":"integer"},"propertyNames":{"pattern":"^[a-z]+$"},"minProperties":1,"maxProperties":2})",
         {R"({"a":1})", R"({"a":1,"b":2})"},
         {"{}", R"({"A":1})", R"({"a":1,"b":2,"c":3})"}},
        {R"({"type":"object","propertyNames":{"enum":["x","y"]},"additionalProperties":{"type":"integer"},"required":["x"]})",
         {R"({"x":1})", R"({"x":1,"y":2})"},
         {"{}", R"({"x":1,"z":2})"}},
        {R"({"type":"object","patternProperties":{"^s_":{"type":"string"},"^n_":{"type":"integer"}},"additionalProperties":false})",
         {R"({"s_a":"x","n_b":1})", "{}"},
         {R"({"s_a":1})", R"({"other":1})"}},
        {R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"},"c":{"type":"null"}},"minProperties":2})",
         {R"({"a":null,"c":null})"},
         {"{}", R"({"b":null})"}},
        {R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}},"maxProperties":1})",
         {"{}", R"({"b":null})"},
         {R"({"a":null,"b":null})"}},
        {R"({"type":"object","required":["a"]})", {R"({"a":1})"}, {"{}", R"({"b":1})"}},
        {R"({"type":"array","items":{"enum":["r","g","b"]},"uniqueItems":true,"minItems":1,"maxItems":2})",
         {R"(["r"])", R"(["g","r"])"},
         {"[]", R"(["r","r"])", R"(["r","g","b"])"}},
        {R"({"type":"array","prefixItems":[{"type":"string"},{"type":"integer"}],"items":{"type":"null"},"minItems":3,"maxItems":4})",
         {R"(["a",1,null])", R"(["a",1,null,null])"},
         {R"(["a",1])"}},
        {R"({"type":"array","prefixItems":[{"type":"string"},{"type":"integer"}],"maxItems":1})",
         {R"(["a"])"},
         {R"(["a",1])"}},
        {R"({"type":"array","items":{"type":"integer"},"maxItems":0})", {"[]"}, {"[1]"}},
        {R"({"type":"array","items":false})", {"[]"}, {"[1]"}},
        {R"({"type":"array","items":{"type":"boolean"},"maxItems":300})", {"[true,false]"}, {"[1]"}},
        {R"({"type":["integer","null"],"minimum":1})", {"1", "null"}, {"0"}},
        {R"({"type":"string","nullable":true})", {"null", R"("a")"}, {"1"}},
        {R"({"enum":["a",3,null,true],"type":["string","null"]})", {R"("a")", "null"}, {"3", "true"}},
        {R"({"enum":["ab","abc"],"type":"string","maxLength":2})", {R"("ab")"}, {R"("abc")"}},
        {R"({"enum":[1,5,9],"minimum":4})", {"5", "9"}, {"1"}},
        {R"({"const":null})", {"null"}, {"1"}},
        {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"anyOf":[{"required":["a"]},{"required":["b"]}]})",
         {R"({"a":1})", R"({"b":1})", R"({"a":1,"b":2})"},
         {"{}"}},
        {R"({"oneOf":[{"type":"object","properties":{"kind":{"const":"a"},"x":{"type":"integer"}},"required":["kind","x"]},
            {"type":"object","properties":{"kind":{"const":"b"}},"required":["kind"]}]})",
         {R"({"kind":"a","x":1})", R"({"kind":"b"})"},
         {R"({"kind":"c"})", R"({"kind":"a"})"}},
        {R"({"oneOf":[{"type":"string"},{"type":"integer"}]})", {"1", R"("a")"}, {"true"}},
        {R"({"allOf":[{"type":"number","minimum":1},{"maximum":9,"minimum":3},{"type":"integer"}]})",
         {"3", "9"},
         {"2", "10"}},
        {R"({"allOf":[{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]},
            {"properties":{"a":{"minimum":5},"b":{"type":"null"}},"required":["b"]}]})",
         {R"({"a":5,"b":null})"},
         {R"({"a":4,"b":null})", R"({"a":5})"}},
        {R"({"allOf":[{"pattern":"a"},{"pattern":"b"}],"type":"string"})", {R"("xbxa")"}, {R"("a")"}},
        {R"({"$defs":{"p":{"type":"integer","minimum":0}},"$ref":"#/$defs/p","maximum":3})", {"3"}, {"4", "-1"}},
        {R"({"$defs":{"n":{"type":"object","properties":{"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["next"]}},
            "$ref":"#/$defs/n"})",
         {R"({"next":{"next":null}})"},
         {R"({"next":1})"}},
        {R"({"title":"T","description":"d","type":"boolean","default":true,"x-order":1,"examples":[true]})",
         {"true"},
         {"1"}},
    };
    return kList;
}

TEST(SchemaGrammar, WhatFitsTheSchemaIsAcceptedAndWhatDoesNotIsNot) {
    for (const Kept& kept : kept_schemas()) {
        for (const char* text : kept.fitting) EXPECT_TRUE(accepts(kept.schema, text)) << kept.schema << " and " << text;
        for (const char* text : kept.unfit) EXPECT_FALSE(accepts(kept.schema, text)) << kept.schema << " and " << text;
    }
}

TEST(SchemaGrammar, WhateverIsWrittenFitsTheSchema) {
    std::mt19937 random(7);
    for (const Kept& kept : kept_schemas()) {
        const auto grammar = grammar_of_schema(kept.schema);
        ASSERT_TRUE(grammar.has_value()) << kept.schema << ": " << grammar.error().message;
        const GbnfMatcher writer(*grammar);
        const Json schema = Json::parse(kept.schema);
        for (int i = 0; i < 200; ++i) {
            const std::string text = writer.generate(random);
            const auto value = try_parse(text);
            ASSERT_TRUE(value.has_value()) << kept.schema << " let through " << text;
            ASSERT_TRUE(SchemaValidator(schema).fits(*value)) << kept.schema << " let through " << text;
        }
    }
}

TEST(SchemaGrammar, LibllamaReadsWhatIsWritten) {
    const auto engine = engine::Engine::open({.model_path = HYPURA_DEMO_MODEL, .mode = engine::Mode::kMmap});
    ASSERT_TRUE(engine.has_value()) << engine.error().message;
    for (const Kept& kept : kept_schemas()) {
        const auto grammar = grammar_of_schema(kept.schema);
        ASSERT_TRUE(grammar.has_value()) << kept.schema;
        const auto sampler = engine::Sampler::create(**engine, {.grammar = engine::Grammar{.text = *grammar}});
        EXPECT_TRUE(sampler.has_value()) << kept.schema << ": " << (sampler ? "" : sampler.error().message);
    }
}

TEST(SchemaGrammar, WhatCannotBeKeptIsRefusedByName) {
    const std::pair<const char*, const char*> kRefused[] = {
        {R"({"not":{"type":"string"}})", "\"not\""},
        {R"({"type":"object","if":{},"then":{}})", "\"if\""},
        {R"({"type":"object","properties":{"a":{"contains":1}}})", "\"contains\""},
        {R"({"type":"object","dependentRequired":{"a":["b"]}})", "\"dependentRequired\""},
        {R"({"type":"array","items":{"type":"string"},"uniqueItems":true})", "uniqueItems"},
        {R"({"type":"string","format":"phone"})", "\"phone\""},
        {R"({"type":"string","pattern":"(a)\\1"})", "back-reference"},
        {R"({"type":"string","pattern":3})", "\"pattern\" must be a string"},
        {R"({"type":"string","minLength":3,"maxLength":2})", "\"minLength\" is more than \"maxLength\""},
        {R"({"type":"string","pattern":"^a{5}$","maxLength":2})", "no text fits"},
        {R"({"type":"integer","minimum":3,"maximum":2})", "no number"},
        {R"({"type":"number","multipleOf":0})", "multipleOf"},
        {R"({"type":"number","minimum":"3"})", "\"minimum\" must be a number"},
        {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "alternatives 1 and 2 of oneOf"},
        {R"({"type":"object","additionalProperties":{"type":"string"},"minProperties":2})", "minProperties"},
        {R"({"allOf":[{"type":"string"},{"type":"integer"}]})", "disagree about \"type\""},
        {R"({"allOf":{}})", "\"allOf\" must be an array"},
        {R"({"type":"object","properties":{"a":false},"required":["a"]})", "\"a\" is required and not allowed"},
        {R"({"type":"array","items":false,"minItems":1})", "minItems"},
        {R"({"enum":["a"],"type":"integer"})", "no value of enum"},
        {R"({"enum":[]})", "no value of enum"},
        {R"({"$ref":"#"})", "leads back to itself"},
        {R"({"$ref":"other.json#/a"})", "points elsewhere"},
        {R"({"$defs":{"a":{"allOf":[{"$ref":"#/$defs/a"}]}},"$ref":"#/$defs/a"})", "nested too deeply"},
        {"false", "allows no value"},
        {"[]", "must be an object"},
    };
    for (const auto& [schema, message] : kRefused) {
        const auto grammar = grammar_of_schema(schema);
        ASSERT_FALSE(grammar.has_value()) << schema;
        EXPECT_EQ(grammar.error().status, 400) << schema;
        EXPECT_NE(grammar.error().message.find(message), std::string::npos)
            << schema << ": " << grammar.error().message;
    }
}

TEST(SchemaGrammar, EscapedCharactersAreUnicode) {
    const GbnfMatcher matcher(*grammar_of_schema(R"({"type":"string"})"));
    EXPECT_TRUE(matcher.matches(R"("\u00e4\uD7FF\ue000")"));
    EXPECT_FALSE(matcher.matches(R"("\ud83d")"));
}

TEST(SchemaGrammar, AnyObject) {
    const GbnfMatcher matcher(grammar_of_json_object());
    EXPECT_TRUE(matcher.matches(R"({"a": [1, 2.5e3, "x\n", {"b": null}], "c": {}})"));
    EXPECT_FALSE(matcher.matches("[1]"));
}

TEST(ToolGrammar, EveryNotationIsWhatItsParserReads) {
    const std::vector<Tool> tools = {
        {"f", R"({"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]})", ""}, {"g", "{}", ""}};
    // What stands for the calls of f and g in a model's own notation, and what the parser makes of it.
    const auto expect_calls = [&](std::string_view source, const std::string& text, const std::string& names) {
        const TemplateFamily family = template_family(source);
        EXPECT_TRUE(GbnfMatcher(*grammar_of_tool_calls(family, tools, "", true)).matches(text)) << text;
        const auto parser = make_answer_parser({.family = family, .tool_names = {"f", "g"}});
        std::vector<AnswerPart> parts = parser->push(text);
        for (AnswerPart& part : parser->finish()) parts.push_back(std::move(part));
        std::string called;
        for (const AnswerPart& part : parts) called += std::get<ToolCall>(part).name;
        EXPECT_EQ(called, names) << text;
    };
    expect_calls("tools <tool_call>", "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":1}}\n</tool_call>", "f");
    expect_calls("tools <seed:tool_call>", "<seed:tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</seed:tool_call>",
                 "g");
    expect_calls("tools [TOOL_CALLS]",
                 "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\":1}}, {\"name\": \"g\", \"arguments\": {}}]",
                 "fg");
    expect_calls("tools ipython", "{\"name\": \"g\", \"parameters\": {}}", "g");
    expect_calls("tools <function=", "<function=f>{\"a\":1}</function>", "f");
    expect_calls("tools <|channel|>", "<|channel|>commentary to=functions.g <|constrain|>json<|message|>{}<|call|>",
                 "g");
    expect_calls("tools <|tool_call|>", "<|tool_call|>[{\"name\": \"g\", \"arguments\": {}}]<|/tool_call|>", "g");
    expect_calls("tools <|START_ACTION|>", "<|START_ACTION|>[{\"name\": \"g\", \"arguments\": {}}]<|END_ACTION|>", "g");
    expect_calls("tools <minimax:tool_call>",
                 "<minimax:tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</minimax:tool_call>", "g");
    expect_calls("tools <｜tool▁calls▁begin｜>",
                 "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\":1}<｜tool▁call▁end｜>"
                 "<｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
                 "fg");
    expect_calls("tools <|tool_calls_section_begin|>",
                 "<|tool_calls_section_begin|><|tool_call_begin|>functions.g:0<|tool_call_argument_begin|>{}"
                 "<|tool_call_end|><|tool_calls_section_end|>",
                 "g");
    const TemplateFamily llama = template_family("tools ipython");
    EXPECT_FALSE(GbnfMatcher(*grammar_of_tool_calls(llama, tools, "", true)).matches("no call"));
    EXPECT_FALSE(GbnfMatcher(*grammar_of_tool_calls(llama, tools, "g", true))
                     .matches("{\"name\": \"f\", \"parameters\": {\"a\":1}}"));
    EXPECT_FALSE(grammar_of_tool_calls(llama, tools, "h", true).has_value());
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
