// The regular expressions of JSON schema's "pattern" (ECMAScript's, with the u flag), as automata; and "format", which
// is a table of such patterns.
//
// A pattern matches anywhere in the text, as JSON schema says, unless it is anchored. Look-ahead is understood at the
// beginning of a pattern, behind "^" ("^(?=.*\d).{8,}$", as password rules and zod's e-mail pattern have it).
#pragma once

#include "server/text_automaton.h"

#include <optional>
#include <string>
#include <string_view>

namespace hypura::server {

// Errors: 400 for what is no pattern, for what no automaton can tell (back-references) or this parser does not know
// (\b,
// \p{}, look-ahead elsewhere, look-behind), by name; and for too many states.
ApiResult<TextAutomaton> automaton_of_pattern(std::string_view pattern);

// The pattern that texts of a format follow. Empty: a format that is not known here.
std::optional<std::string_view> pattern_of_format(std::string_view format);
std::string known_formats();  // "date, time, ..." for messages

}  // namespace hypura::server
