// Builds a deterministic automaton from a description of its states: values of any ordered type, found on the way.
#pragma once

#include "server/text_automaton.h"

#include <map>
#include <utility>

namespace hypura::server {

inline constexpr size_t kMostExplored = 100000;

// `edges_of(key)`: the edges as (range, key) pairs, disjoint and ascending; `accepts(key)`: whether a text may end
// there.
template <class Key, class EdgesOf, class Accepts>
ApiResult<TextAutomaton> explore(const Key& start, const EdgesOf& edges_of, const Accepts& accepts) {
    TextAutomaton automaton;
    std::map<Key, uint32_t> numbers{{start, 0}};
    std::vector<Key> keys{start};
    for (size_t at = 0; at < keys.size(); ++at) {
        if (keys.size() > kMostExplored) return too_complicated();
        const Key key = keys[at];
        TextAutomaton::State state{accepts(key), {}};
        for (auto& [range, next] : edges_of(key)) {
            const auto [entry, is_new] = numbers.try_emplace(next, static_cast<uint32_t>(keys.size()));
            if (is_new) keys.push_back(next);
            state.edges.push_back({range, entry->second});
        }
        automaton.states.push_back(std::move(state));
    }
    automaton = minimized(automaton);
    if (automaton.states.size() > kMostAutomatonStates) return too_complicated();
    return automaton;
}

}  // namespace hypura::server
