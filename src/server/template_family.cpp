#include "server/template_family.h"

#include <array>

namespace hypura::server {
namespace {

ToolStyle tool_style(std::string_view source) {
    if (source.contains("<|channel|>")) return ToolStyle::kHarmony;
    if (!source.contains("tools")) return ToolStyle::kNone;
    if (source.contains("[TOOL_CALLS]")) return ToolStyle::kMistral;
    if (source.contains("<tool_call>")) return ToolStyle::kHermes;
    if (source.contains("<function=")) return ToolStyle::kFunction;
    if (source.contains("<|python_tag|>") || source.contains("ipython")) return ToolStyle::kLlama;
    return ToolStyle::kHermes;  // the most widely understood way to ask a model that says nothing about its own
}

struct Tags {
    std::string_view open, close;
};

Tags think_tags(std::string_view source) {
    constexpr std::array kKnown = {Tags{"<think>", "</think>"}, Tags{"[THINK]", "[/THINK]"},
                                   Tags{"<thinking>", "</thinking>"}, Tags{"<seed:think>", "</seed:think>"}};
    for (const Tags& tags : kKnown)
        if (source.contains(tags.close)) return tags;
    return {};
}

}  // namespace

TemplateFamily template_family(std::string_view source) {
    TemplateFamily family;
    family.tools = tool_style(source);
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
    switch (tools) {
        case ToolStyle::kHermes:
            add({"<tool_call>", "</tool_call>"});
            break;
        case ToolStyle::kLlama:
            add({"<|python_tag|>"});
            break;
        case ToolStyle::kMistral:
            add({"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"});
            break;
        case ToolStyle::kHarmony:
            add({"<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>", "<|call|>", "<|return|>"});
            break;
        case ToolStyle::kFunction:
        case ToolStyle::kNone:
            break;
    }
    return markers;
}

}  // namespace hypura::server
