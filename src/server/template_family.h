// What a model's chat template reveals about how the model marks its thinking and its tool calls.
//
// There is no metadata for this: the markers that a template writes into history are the ones that the model writes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hypura::server {

enum class ToolStyle {
    kNone,    // the template knows no tools
    kHermes,  // <tool_call>{"name","arguments"}</tool_call>: Hermes, Qwen; also with <function=...> inside (Qwen coder)
    kLlama,   // {"name","parameters"} as the whole answer, perhaps after <|python_tag|>: Llama 3
    kMistral,   // [TOOL_CALLS][{"name","arguments"}], or [TOOL_CALLS]name[ARGS]{...}
    kFunction,  // <function=name>{...}</function>: functionary 3.1
    kHarmony,   // channels: gpt-oss
};

struct TemplateFamily {
    ToolStyle tools = ToolStyle::kNone;
    bool thinks = false;
    std::string think_open;   // "<think>"; harmony's channels have none
    std::string think_close;  // "</think>"

    // Control tokens that the parser must see although they are not text to be shown.
    std::vector<std::string> marker_tokens() const;
};

// `source`: the Jinja text; empty for a model without a template.
TemplateFamily template_family(std::string_view source);

}  // namespace hypura::server
