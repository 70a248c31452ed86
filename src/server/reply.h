// How one request is answered in one dialect: native events become bytes.
//
// One object a request; it remembers what a stream has said so far. Calls come from one thread at a time.
#pragma once

#include "server/request.h"

#include <format>
#include <memory>
#include <string>

namespace hypura::server {

class Reply {
public:
    virtual ~Reply() = default;

    // ---- a stream: begin, then event after event; the bytes of one call belong together and are flushed at once ----
    virtual std::string stream_type() const = 0;  // Content-Type
    virtual std::string begin() { return {}; }    // before the first event or keep_alive
    virtual std::string event(const Event& event) = 0;
    // Bytes that say "still here", and how far the prompt is; every client ignores them. Sent when nothing else was for
    // a while.
    virtual std::string keep_alive() = 0;

    // ---- in one piece
    // ------------------------------------------------------------------------------------------------
    virtual std::string whole(const Answer& answer) = 0;
    // The body of a response that is nothing but this error.
    virtual std::string error(const ApiError& error) = 0;
};

// How far a prompt is, remembered between events for whoever waits.
class PromptWatch {
public:
    void see(const ProgressEvent& progress) { progress_ = progress; }
    // Empty when nothing is known, or the prompt has been read.
    const ProgressEvent* reading() const {
        return progress_.done_tokens < progress_.total_tokens ? &progress_ : nullptr;
    }
    // A comment of a stream of server-sent events: no client takes it for an event.
    std::string comment() const {
        if (reading() == nullptr) return ": still working\n\n";
        return std::format(": {} of {} prompt tokens read\n\n", progress_.done_tokens, progress_.total_tokens);
    }

private:
    ProgressEvent progress_;
};

// White space before a JSON document is no part of it: how a reply in one piece says "still here".
inline constexpr std::string_view kBlankKeepAlive = " \n";

}  // namespace hypura::server
