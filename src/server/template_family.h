// What a model's chat template reveals about how the model marks its thinking and its tool calls.
//
// There is no metadata for this: the markers that a template writes into history are the ones that the model writes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hypura::server {

enum class ToolStyle {
    kNone,      // the template knows no tools
    kHermes,    // {"name","arguments"}: Hermes, Qwen; <function=...> (Qwen coder, Seed); name<arg_key>... (GLM)
    kLlama,     // {"name","parameters"} as the whole answer, perhaps after <|python_tag|>: Llama 3 and 4
    kMistral,   // [{"name","arguments"}], or name[ARGS]{...}
    kFunction,  // <function=name>{...}</function>: functionary 3.1
    kDeepSeek,  // calls with markers of their own: V3, R1, V3.1
    kKimi,      // the same with other markers: Kimi K2
    kInvoke,    // <invoke name="..."><parameter name="...">: MiniMax
    kJsonList,  // [{"name","arguments"}] between markers: Granite, Phi 4, Command R, Nemotron, Jamba
    kHarmony,   // channels: gpt-oss
};

struct TemplateFamily {
    ToolStyle tools = ToolStyle::kNone;
    std::string call_open;   // what calls stand between; harmony's channels have none
    std::string call_close;  // empty: the end of the answer
    bool thinks = false;
    std::string think_open;   // "<think>"; harmony's channels have none
    std::string think_close;  // "</think>"

    void ignore_tools() {
        tools = ToolStyle::kNone;
        call_open.clear();
        call_close.clear();
    }
    // Control tokens that the parser must see although they are not text to be shown.
    std::vector<std::string> marker_tokens() const;
};

// `source`: the Jinja text; empty for a model without a template. `tool_source`: that of the template which the model
// has for conversations with tools, or empty.
TemplateFamily template_family(std::string_view source, std::string_view tool_source = {});

}  // namespace hypura::server
