// Feeds arbitrary JSON schemas to the writer of grammars, as a format and as a tool's parameters: no schema may crash
// it, hang it or make it take memory out of proportion, and every grammar stays within its bound.
#include "base/check.h"
#include "server/schema_grammar.h"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace hypura::server;
    constexpr size_t kMostGrammarBytes = size_t{64} << 20;
    const std::string schema(reinterpret_cast<const char*>(data), size);
    const auto grammar = grammar_of_schema(schema);
    if (grammar)
        HYPURA_CHECK(grammar->starts_with("root ::= ") && grammar->size() < kMostGrammarBytes);
    else
        HYPURA_CHECK(grammar.error().status == 400 && !grammar.error().message.empty());
    const auto call = grammar_of_tool_calls(template_family("tools <tool_call>"), {{"f", schema, "{}"}}, "", true);
    HYPURA_CHECK(call || call.error().status == 400);
    return 0;
}
