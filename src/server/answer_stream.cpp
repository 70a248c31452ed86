#include "server/answer_stream.h"

namespace hypura::server {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// How long a vanished client may go unnoticed.
constexpr milliseconds kPatience{50};

HttpReply error_reply(Reply& reply, const ApiError& error) {
    return {.status = error.status, .body = reply.error(error)};
}

class KeepAliveTimer {
public:
    explicit KeepAliveTimer(milliseconds period) : period_(period) {}
    void reset() { last_ = Clock::now(); }
    bool due() const { return Clock::now() - last_ >= period_; }

private:
    milliseconds period_;
    Clock::time_point last_ = Clock::now();
};

// ---- event by event ------------------------------------------------------------------------------------------------

class EventStream final : public BodyStream {
public:
    EventStream(std::shared_ptr<EventChannel> channel, std::unique_ptr<Reply> reply, std::optional<Event> first,
                milliseconds keep_alive)
        : channel_(std::move(channel)), reply_(std::move(reply)), first_(std::move(first)), timer_(keep_alive) {}
    ~EventStream() override { channel_->abandon(); }

    bool next(std::string& bytes) override {
        const size_t before = bytes.size();
        if (!std::exchange(begun_, true)) bytes += reply_->begin();
        bool more = true;
        for (auto event = take(); event && more; event = more ? channel_->take(milliseconds(0)) : std::nullopt) {
            bytes += reply_->event(*event);
            more = !std::holds_alternative<DoneEvent>(*event) && !std::holds_alternative<FailedEvent>(*event);
        }
        if (more && bytes.size() == before && timer_.due()) bytes += reply_->keep_alive();
        if (bytes.size() > before) timer_.reset();
        return more;
    }

private:
    std::optional<Event> take() {
        if (first_) return std::exchange(first_, std::nullopt);
        return channel_->take(kPatience);
    }

    std::shared_ptr<EventChannel> channel_;
    std::unique_ptr<Reply> reply_;
    std::optional<Event> first_;
    KeepAliveTimer timer_;
    bool begun_ = false;
};

// ---- in one piece --------------------------------------------------------------------------------------------------

// Gathers the events of a channel until the answer is whole.
class Gatherer {
public:
    Gatherer(std::shared_ptr<EventChannel> channel, std::unique_ptr<Reply> reply)
        : channel_(std::move(channel)), reply_(std::move(reply)) {}
    Gatherer(const Gatherer&) = delete;
    Gatherer& operator=(const Gatherer&) = delete;
    ~Gatherer() { channel_->abandon(); }

    std::optional<LateBody> wait(milliseconds patience) {
        const auto until = Clock::now() + patience;
        do {
            const auto event = channel_->take(kPatience);
            if (!event) continue;
            if (const auto* failed = std::get_if<FailedEvent>(&*event))
                return LateBody{reply_->error(failed->error), failed->error.status};
            answer_.add(*event);
            if (std::holds_alternative<DoneEvent>(*event)) return LateBody{reply_->whole(answer_), 200};
        } while (Clock::now() < until);
        return std::nullopt;
    }

private:
    std::shared_ptr<EventChannel> channel_;
    std::unique_ptr<Reply> reply_;
    Answer answer_;
};

class LateStream final : public BodyStream {
public:
    LateStream(std::function<std::optional<LateBody>(milliseconds)> wait, milliseconds keep_alive)
        : wait_(std::move(wait)), timer_(keep_alive) {}

    bool next(std::string& bytes) override {
        if (!std::exchange(begun_, true)) {
            bytes += kBlankKeepAlive;
            return true;
        }
        if (auto late = wait_(kPatience)) {
            bytes += late->body;
            return false;
        }
        if (timer_.due()) {
            bytes += kBlankKeepAlive;
            timer_.reset();
        }
        return true;
    }

private:
    std::function<std::optional<LateBody>(milliseconds)> wait_;
    KeepAliveTimer timer_;
    bool begun_ = false;
};

// Progress alone says nothing about success; the reply remembers it.
std::optional<Event> first_event(EventChannel& channel, Reply& reply, const AnswerStreamOptions& options) {
    const auto until = Clock::now() + options.keep_alive;
    while (Clock::now() < until && !options.client_gone()) {
        auto event = channel.take(kPatience);
        if (event && !std::holds_alternative<ProgressEvent>(*event)) return event;
        if (event) reply.event(*event);
    }
    return std::nullopt;
}

HttpReply streamed(std::shared_ptr<EventChannel> channel, std::unique_ptr<Reply> reply,
                   const AnswerStreamOptions& options) {
    auto first = first_event(*channel, *reply, options);
    if (first)
        if (const auto* failed = std::get_if<FailedEvent>(&*first)) return error_reply(*reply, failed->error);
    HttpReply http{.content_type = reply->stream_type()};
    http.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
    http.stream =
        std::make_shared<EventStream>(std::move(channel), std::move(reply), std::move(first), options.keep_alive);
    return http;
}

}  // namespace

HttpReply answer(std::shared_ptr<EventChannel> channel, std::unique_ptr<Reply> reply,
                 const AnswerStreamOptions& options) {
    if (options.stream) return streamed(std::move(channel), std::move(reply), options);
    const auto gatherer = std::make_shared<Gatherer>(std::move(channel), std::move(reply));
    return answer_later([gatherer](milliseconds patience) { return gatherer->wait(patience); }, options);
}

HttpReply answer_later(std::function<std::optional<LateBody>(milliseconds patience)> wait,
                       const AnswerStreamOptions& options) {
    const auto until = Clock::now() + options.keep_alive;
    while (Clock::now() < until && !options.client_gone()) {
        auto late = wait(kPatience);
        if (!late) continue;
        return {.status = late->status, .body = std::move(late->body)};
    }
    HttpReply http;
    http.stream = std::make_shared<LateStream>(std::move(wait), options.keep_alive);
    return http;
}

}  // namespace hypura::server
