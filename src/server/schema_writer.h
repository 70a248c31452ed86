// Writes the GBNF rules of one JSON schema: what it allows, keyword by keyword. schema_grammar.h says which are kept.
#pragma once

#include "server/api_error.h"
#include "server/json.h"
#include "server/text_automaton.h"

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::server {

std::string literal(std::string_view text);  // as GBNF writes it
std::string joined_with(const std::vector<std::string>& parts, std::string_view separator);
std::string_view basic_json_rules();  // "value", "object", "string", "ws", ...: what all schemas' rules refer to

// Sub-schemas become rules of their own, so that nothing is written twice and references may go round in circles.
class SchemaWriter {
public:
    // `prefix`: of all rule names, so that several writers may share a grammar. `document` must outlive the writer.
    SchemaWriter(const Json& document, std::string prefix) : document_(document), prefix_(std::move(prefix)) {}

    // The name of the rule for `schema`. Errors: 400.
    ApiResult<std::string> rule_for(const Json& schema);
    const std::string& rules() const { return rules_; }

private:
    using Body = ApiResult<std::string>;  // what stands behind "::="

    Body body_of(Json schema);
    Body body_without_references(Json schema);
    Body reference(const std::string& path);
    Body all_of(Json schema);
    Body any_of(const Json& schema, const std::string& key);
    Body values(const Json& schema);
    Body typed_body(const std::string& type, const Json& schema);
    Body string_body(const Json& schema);
    Body number_body(const Json& schema, bool integer);
    Body alternatives(const std::vector<Json>& schemas);

    Body object_body(const Json& schema);
    struct Members;
    ApiResult<Members> members_of(const Json& schema);
    ApiResult<std::optional<std::string>> extra_members(const Json& schema);
    struct Names {
        TextAutomaton texts;
        bool any = false;  // nothing is excluded
    };
    ApiResult<Names> names_of_others(const Json& schema) const;
    ApiResult<std::vector<std::string>> pattern_members(const Json& patterns, Names& names);
    ApiResult<std::string> extra_member(const Names& names, const Json& value);
    ApiResult<std::string> object_end(const Members& members, uint64_t written);

    Body array_body(const Json& schema);
    std::string list_body(const std::vector<std::string>& first, const std::string& item, uint64_t least,
                          std::optional<uint64_t> most);
    Body unique_items(const Json& schema);
    Body set_body(const Json& schema, const Json& item, const std::vector<Json>& choices);
    ApiResult<std::vector<std::string>> item_rules(const Json& schema, std::optional<std::string>& more);

    ApiResult<bool> fits(const Json& value, const Json& schema) const;
    std::string repeated(const std::string& element, uint64_t least, std::optional<uint64_t> most);
    std::string add(std::string name, const std::string& body);
    std::string next_name();

    const Json& document_;
    std::string prefix_;
    std::string rules_;
    std::map<std::string, std::string> references_;  // path -> rule
    int count_ = 0;
    int depth_ = 0;
};

}  // namespace hypura::server
