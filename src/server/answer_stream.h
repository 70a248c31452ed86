// The body of an answer that is being written: takes events from a channel, lets a Reply turn them into bytes, and says
// "still here" when nothing comes for a while.
#pragma once

#include "server/event_channel.h"
#include "server/http_types.h"
#include "server/reply.h"

#include <chrono>
#include <memory>

namespace hypura::server {

struct AnswerStreamOptions {
    bool stream = true;
    std::chrono::milliseconds keep_alive{15000};
    std::function<bool()> client_gone;
};

// Waits for the first event, or for one `keep_alive`, and only then settles on a status: what goes wrong at once is an
// error with its own status, what goes wrong later is an error inside a 200.
HttpReply answer(std::shared_ptr<EventChannel> channel, std::unique_ptr<Reply> reply,
                 const AnswerStreamOptions& options);

// An answer in one piece, `text` or an error, that somebody else makes: `wait(patience)` gives it when it is there.
struct LateBody {
    std::string body;
    int status = 200;
};
HttpReply answer_later(std::function<std::optional<LateBody>(std::chrono::milliseconds patience)> wait,
                       const AnswerStreamOptions& options);

}  // namespace hypura::server
