// Reads what a Reply wrote back as events, the way a client does.
#pragma once

#include "server/json.h"
#include "server/reply.h"

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

namespace hypura::server {

struct SseEvent {
    std::string name;
    std::string data;
    Json json;  // discarded where the data is no JSON ("[DONE]")
};

inline std::vector<SseEvent> parse_sse(const std::string& bytes) {
    std::vector<SseEvent> events;
    std::istringstream lines(bytes);
    SseEvent event;
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("event: ")) event.name = line.substr(7);
        if (line.starts_with("data: ")) event.data = line.substr(6);
        if (line.empty() && !event.data.empty()) {
            event.json = Json::parse(event.data, nullptr, false);
            events.push_back(std::exchange(event, {}));
        }
    }
    return events;
}

inline std::vector<Json> parse_lines(const std::string& bytes) {
    std::vector<Json> objects;
    std::istringstream lines(bytes);
    for (std::string line; std::getline(lines, line);) objects.push_back(Json::parse(line));
    return objects;
}

inline std::string play(Reply& reply, const std::vector<Event>& events) {
    std::string bytes = reply.begin();
    for (const Event& event : events) bytes += reply.event(event);
    return bytes;
}

inline DoneEvent done_event(Finish finish = Finish::kStop) {
    return {.finish = finish,
            .usage = {.prompt_tokens = 10, .cached_prompt_tokens = 4, .answer_tokens = 3},
            .timing = {.total_ns = 100, .load_ns = 1, .prompt_ns = 20, .answer_ns = 30}};
}

// Thinking, text and a call: everything that an answer may hold.
inline std::vector<Event> full_answer() {
    return {ThinkingEvent{"hm", {}},
            TextEvent{"Hel", {}},
            TextEvent{"lo", {}},
            ToolCallEvent{{"call_1", "get_weather", R"({"city":"Oslo","days":2})"}, 0},
            ToolCallEvent{{"call_2", "get_time", "{}"}, 1},
            done_event(Finish::kToolCalls)};
}

inline Answer gather(const std::vector<Event>& events) {
    Answer answer;
    for (const Event& event : events) answer.add(event);
    return answer;
}

}  // namespace hypura::server
