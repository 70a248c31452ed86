// Thinking and tool calls of every template family; each text is also fed cut at every byte, and byte by byte.
#include "server/answer_parser.h"

#include <gtest/gtest.h>

#include <format>

namespace hypura::server {
namespace {

// Parts joined and written down: "T:" thinking, "X:" text, "C:" a call.
std::string written(const std::vector<AnswerPart>& parts) {
    std::string text, last;
    for (const AnswerPart& part : parts) {
        if (const auto* call = std::get_if<ToolCall>(&part)) {
            text += std::format("|C:{}{}", call->name, call->arguments);
            last = "C";
            continue;
        }
        const bool thinking = std::holds_alternative<ThinkingPart>(part);
        const std::string kind = thinking ? "T" : "X";
        if (kind != last) text += "|" + kind + ":";
        text += thinking ? std::get<ThinkingPart>(part).text : std::get<TextPart>(part).text;
        last = kind;
    }
    return text;
}

std::string parse_pieces(const AnswerParserOptions& options, const std::vector<std::string_view>& pieces) {
    const auto parser = make_answer_parser(options);
    std::vector<AnswerPart> parts;
    for (const std::string_view piece : pieces)
        for (AnswerPart& part : parser->push(piece)) parts.push_back(std::move(part));
    for (AnswerPart& part : parser->finish()) parts.push_back(std::move(part));
    return written(parts);
}

void expect_parts(const AnswerParserOptions& options, std::string_view text, const std::string& expected) {
    EXPECT_EQ(parse_pieces(options, {text}), expected);
    for (size_t cut = 1; cut < text.size(); ++cut)
        EXPECT_EQ(parse_pieces(options, {text.substr(0, cut), text.substr(cut)}), expected) << "cut at " << cut;
    std::vector<std::string_view> bytes;
    for (size_t i = 0; i < text.size(); ++i) bytes.push_back(text.substr(i, 1));
    EXPECT_EQ(parse_pieces(options, bytes), expected) << "byte by byte";
}

AnswerParserOptions options_for(std::string_view source, bool begins_thinking = false) {
    return {template_family(source), begins_thinking, {"f", "get_weather"}};
}

constexpr std::string_view kQwen = "{{ tools }} <tool_call> <think> </think>";

TEST(AnswerParser, PlainText) {
    expect_parts(options_for(""), "a < b and <think> is a tag", "|X:a < b and <think> is a tag");
    expect_parts(options_for(kQwen), "", "");
    expect_parts(options_for(kQwen), "just text <tool", "|X:just text <tool");
}

TEST(AnswerParser, Thinking) {
    expect_parts(options_for(kQwen), "<think>\nhm, hm\n</think>\n\nHello", "|T:hm, hm\n|X:Hello");
    expect_parts(options_for(kQwen, true), "hm\n</think>\n\nHello", "|T:hm\n|X:Hello");
    expect_parts(options_for(kQwen), "<think>\n\n</think>\n\nHello", "|X:Hello");
    expect_parts(options_for(kQwen), "<think>never ends", "|T:never ends");
    expect_parts(options_for(kQwen), "The tag <think> opens it.", "|X:The tag <think> opens it.");
    expect_parts(options_for("[THINK] [/THINK]"), "[THINK]hm[/THINK]Hi", "|T:hm|X:Hi");
}

TEST(AnswerParser, HermesCalls) {
    expect_parts(options_for(kQwen),
                 "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"z\": 1, \"a\": \"}\"}}\n</tool_call>",
                 "|C:f{\"z\":1,\"a\":\"}\"}");
    expect_parts(options_for(kQwen),
                 "<think>hm</think>Let me see.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n"
                 "<tool_call>{\"name\":\"get_weather\",\"arguments\":{\"city\":\"Oslo\"}}</tool_call>",
                 "|T:hm|X:Let me see.\n|C:f{}|C:get_weather{\"city\":\"Oslo\"}");
    expect_parts(options_for(kQwen), "<tool_call>{\"name\":\"f\",\"arguments\":{}}", "|C:f{}");
}

TEST(AnswerParser, WhatIsNoCallOfAKnownToolStaysText) {
    expect_parts(options_for(kQwen), "<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call> ok",
                 "|X:<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call> ok");
    expect_parts(options_for(kQwen), "<tool_call>oops</tool_call>", "|X:<tool_call>oops</tool_call>");
    expect_parts({template_family(kQwen), false, {}}, "<tool_call>{\"name\":\"f\"}</tool_call>",
                 "|X:<tool_call>{\"name\":\"f\"}</tool_call>");
}

TEST(AnswerParser, QwenCoderCalls) {
    expect_parts(options_for(kQwen),
                 "<tool_call>\n<function=f>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
                 "</function>\n</tool_call>",
                 "|C:f{\"city\":\"Oslo\",\"days\":2}");
}

// Values have no quotation marks there: what is a text is left alone, even if it looks like something else.
TEST(AnswerParser, ParametersThatAreTextsStayTexts) {
    AnswerParserOptions options = options_for(kQwen);
    options.text_parameters["f"] =
        text_parameters(R"({"properties":{"content":{"type":"string"},"days":{"type":"integer"}}})");
    expect_parts(options,
                 "<tool_call>\n<function=f>\n<parameter=content>\n{\"a\": 1}\n</parameter>\n<parameter=days>\n2\n"
                 "</parameter>\n</function>\n</tool_call>",
                 "|C:f{\"content\":\"{\\\"a\\\": 1}\",\"days\":2}");
}

TEST(AnswerParser, GlmCalls) {
    AnswerParserOptions options = options_for(kQwen);
    options.text_parameters["f"] = {"zip"};
    expect_parts(
        options,
        "<think>hm</think>\n<tool_call>f\n<arg_key>zip</arg_key>\n<arg_value>0150</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n<tool_call>get_weather\n</tool_call>",
        "|T:hm|C:f{\"zip\":\"0150\",\"days\":2}|C:get_weather{}");
}

TEST(AnswerParser, SeedCalls) {
    expect_parts(options_for("{{ tools }} <seed:tool_call> <function="),
                 "Ok.<seed:tool_call>\n<function=f>\n<parameter=a>1</parameter>\n</function>\n"
                 "<function=get_weather>\n</function>\n</seed:tool_call>",
                 "|X:Ok.|C:f{\"a\":1}|C:get_weather{}");
}

TEST(AnswerParser, DeepSeekCalls) {
    constexpr std::string_view kDeepSeek = "{{ tools }} <｜tool▁calls▁begin｜> </think> <think>";
    expect_parts(options_for(kDeepSeek),
                 "Ok.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜>"
                 "<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
                 "|X:Ok.|C:f{\"a\": 1}|C:get_weather{}");
    expect_parts(
        options_for(kDeepSeek, true),
        "hm</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n```"
        "<｜tool▁call▁end｜>",
        "|T:hm|C:f{\"a\": 1}");
    expect_parts(options_for(kDeepSeek), "<｜tool▁calls▁begin｜>oops<｜tool▁calls▁end｜>",
                 "|X:<｜tool▁calls▁begin｜>oops<｜tool▁calls▁end｜>");
}

TEST(AnswerParser, KimiCalls) {
    const auto parser = make_answer_parser(options_for("{{ tools }} <|tool_calls_section_begin|>"));
    const auto parts = parser->push(
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"a\": 1}"
        "<|tool_call_end|><|tool_call_begin|>functions.f:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
        "<|tool_calls_section_end|>");
    EXPECT_EQ(written(parts), "|C:f{\"a\": 1}|C:f{}");
    EXPECT_EQ(std::get<ToolCall>(parts.at(1)).id, "functions.f:1");
}

TEST(AnswerParser, MiniMaxCalls) {
    expect_parts(options_for("{{ tools }} <minimax:tool_call> <think> </think>"),
                 "<minimax:tool_call>\n<invoke name=\"f\">\n<parameter name=\"a\">1</parameter>\n"
                 "<parameter name=\"b\">two</parameter>\n</invoke>\n<invoke name=\"get_weather\">\n</invoke>\n"
                 "</minimax:tool_call>",
                 "|C:f{\"a\":1,\"b\":\"two\"}|C:get_weather{}");
}

TEST(AnswerParser, ListsBetweenMarkers) {
    expect_parts(options_for("{{ tools }} <|tool_call|>"), "<|tool_call|>[{\"name\":\"f\",\"arguments\":{}}]",
                 "|C:f{}");
    expect_parts(options_for("{{ tools }} <|START_ACTION|> <|START_THINKING|> <|END_THINKING|>"),
                 "<|START_THINKING|>hm<|END_THINKING|><|START_ACTION|>[{\"tool_call_id\":\"0\",\"tool_name\":\"f\","
                 "\"parameters\":{\"a\":1}},{\"tool_name\":\"get_weather\"}]<|END_ACTION|>",
                 "|T:hm|C:f{\"a\":1}|C:get_weather{}");
    expect_parts(options_for("{{ tools }} <TOOLCALL>"), "<TOOLCALL>[{\"name\":\"f\",\"arguments\":{}}]</TOOLCALL>",
                 "|C:f{}");
}

TEST(AnswerParser, LlamaCalls) {
    constexpr std::string_view kLlama = "{{ tools }} ipython <|python_tag|>";
    expect_parts(options_for(kLlama), "{\"name\": \"f\", \"parameters\": {\"a\": 1}}", "|C:f{\"a\":1}");
    expect_parts(options_for(kLlama),
                 " \n{\"name\":\"f\",\"parameters\":{}}; {\"name\":\"f\",\"parameters\":{\"b\":2}}",
                 "|C:f{}|C:f{\"b\":2}");
    expect_parts(options_for(kLlama), "<|python_tag|>{\"name\":\"f\",\"parameters\":{}}", "|C:f{}");
    expect_parts(options_for(kLlama), "{\"no\": \"call\"}", "|X:{\"no\": \"call\"}");
    expect_parts(options_for(kLlama), "A set {1} is no call", "|X:A set {1} is no call");
}

TEST(AnswerParser, MistralCalls) {
    constexpr std::string_view kMistral = "{{ tools }} [TOOL_CALLS]";
    expect_parts(options_for(kMistral),
                 "[TOOL_CALLS][{\"name\":\"f\",\"arguments\":{\"a\":1}},{\"name\":\"f\",\"arguments\":{}}]",
                 "|C:f{\"a\":1}|C:f{}");
    expect_parts(options_for(kMistral), "[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]get_weather[CALL_ID]x1[ARGS]{}",
                 "|C:f{\"a\": 1}|C:get_weather{}");
    expect_parts(options_for(kMistral), "Ok [1].", "|X:Ok [1].");
}

TEST(AnswerParser, FunctionaryCalls) {
    expect_parts(options_for("{{ tools }} <function="), "<function=f>{\"a\": 1}</function>", "|C:f{\"a\": 1}");
}

TEST(AnswerParser, HarmonyChannels) {
    constexpr std::string_view kHarmony = "<|start|> <|channel|> tools";
    expect_parts(options_for(kHarmony),
                 "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello<|return|>",
                 "|T:hm|X:Hello");
    expect_parts(options_for(kHarmony),
                 "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.f "
                 "<|constrain|>json<|message|>{\"a\":1}<|call|>",
                 "|T:hm|C:f{\"a\":1}");
    expect_parts(options_for(kHarmony), "{\"a\": 1}", "|X:{\"a\": 1}");
}

}  // namespace
}  // namespace hypura::server
