#include "server/template_family.h"

#include <array>

namespace hypura::server {
namespace {

struct CallTags {
    ToolStyle style;
    std::string_view open, close;
};

// The first that a template mentions; so the one that another contains stands behind it.
constexpr std::array kCallTags = {
    CallTags{ToolStyle::kDeepSeek, "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"},
    CallTags{ToolStyle::kKimi, "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"},
    CallTags{ToolStyle::kInvoke, "<minimax:tool_call>", "</minimax:tool_call>"},
    CallTags{ToolStyle::kMistral, "[TOOL_CALLS]", ""},
    CallTags{ToolStyle::kJsonList, "<|START_ACTION|>", "<|END_ACTION|>"},
    CallTags{ToolStyle::kJsonList, "<TOOLCALL>", "</TOOLCALL>"},
    CallTags{ToolStyle::kHermes, "<seed:tool_call>", "</seed:tool_call>"},
    CallTags{ToolStyle::kHermes, "<tool_call>", "</tool_call>"},
    CallTags{ToolStyle::kJsonList, "<|tool_call|>", "<|/tool_call|>"},
    CallTags{ToolStyle::kJsonList, "<tool_calls>", "</tool_calls>"},
    CallTags{ToolStyle::kFunction, "<function=", "</function>"},
};
// The most widely understood way to ask a model whose template says nothing about its own.
constexpr CallTags kHermesTags{ToolStyle::kHermes, "<tool_call>", "</tool_call>"};

CallTags call_tags(std::string_view source) {
    if (source.contains("<|channel|>")) return {ToolStyle::kHarmony, "", ""};
    if (!source.contains("tools")) return {ToolStyle::kNone, "", ""};
    for (const CallTags& tags : kCallTags)
        if (source.contains(tags.open)) return tags;
    if (source.contains("<|python_tag|>") || source.contains("ipython"))
        return {ToolStyle::kLlama, "<|python_tag|>", ""};
    return kHermesTags;
}

struct Tags {
    std::string_view open, close;
};

Tags think_tags(std::string_view source) {
    constexpr std::array kKnown = {Tags{"<think>", "</think>"}, Tags{"[THINK]", "[/THINK]"},
                                   Tags{"<thinking>", "</thinking>"}, Tags{"<seed:think>", "</seed:think>"},
                                   Tags{"<|START_THINKING|>", "<|END_THINKING|>"}};
    for (const Tags& tags : kKnown)
        if (source.contains(tags.close)) return tags;
    return {};
}

}  // namespace

TemplateFamily template_family(std::string_view source, std::string_view tool_source) {
    TemplateFamily family;
    const CallTags calls = call_tags(tool_source.empty() ? source : tool_source);
    family.tools = calls.style;
    family.call_open = calls.open;
    family.call_close = calls.close;
    if (family.tools == ToolStyle::kHarmony) {
        family.thinks = true;
        return family;
    }
    const Tags tags = think_tags(source);
    family.think_open = tags.open;
    family.think_close = tags.close;
    family.thinks = !tags.close.empty();
    return family;
}

std::vector<std::string> TemplateFamily::marker_tokens() const {
    std::vector<std::string> markers;
    if (!think_open.empty()) markers = {think_open, think_close};
    const auto add = [&markers](std::initializer_list<const char*> more) {
        markers.insert(markers.end(), more.begin(), more.end());
    };
    if (!call_open.empty()) markers.push_back(call_open);
    if (!call_close.empty()) markers.push_back(call_close);
    if (tools == ToolStyle::kMistral) add({"[ARGS]", "[CALL_ID]"});
    if (tools == ToolStyle::kDeepSeek) add({"<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"});
    if (tools == ToolStyle::kKimi) add({"<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"});
    if (tools == ToolStyle::kHarmony)
        add({"<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>", "<|call|>", "<|return|>"});
    return markers;
}

}  // namespace hypura::server
