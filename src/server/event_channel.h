// Carries one request's events from the model thread to the connection that answers it.
#pragma once

#include "server/request.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>

namespace hypura::server {

// Any number of threads may push, one takes. Never blocks the pushing side: an answer of text is small.
class EventChannel {
public:
    void push(Event event) {
        {
            const std::scoped_lock lock(mutex_);
            if (abandoned_) return;
            events_.push_back(std::move(event));
        }
        ready_.notify_one();
    }

    // Empty when nothing came within `patience`.
    std::optional<Event> take(std::chrono::milliseconds patience) {
        std::unique_lock lock(mutex_);
        ready_.wait_for(lock, patience, [this] { return !events_.empty(); });
        if (events_.empty()) return std::nullopt;
        Event event = std::move(events_.front());
        events_.pop_front();
        return event;
    }

    // The client has gone: whoever works for it is told (once), and what comes is dropped. Telling happens under the
    // lock: once when_abandoned({}) has returned, what an earlier function refers to may go away.
    void abandon() {
        const std::scoped_lock lock(mutex_);
        abandoned_ = true;
        events_.clear();
        if (const auto tell = std::exchange(on_abandon_, {})) tell();
    }
    bool abandoned() const {
        const std::scoped_lock lock(mutex_);
        return abandoned_;
    }
    // `tell` is called at once if the client has gone already; replaces an earlier one. May be empty.
    void when_abandoned(std::function<void()> tell) {
        const std::scoped_lock lock(mutex_);
        if (!abandoned_)
            on_abandon_ = std::move(tell);
        else if (tell)
            tell();
    }

private:
    mutable std::mutex mutex_;
    std::condition_variable ready_;
    std::deque<Event> events_;
    std::function<void()> on_abandon_;
    bool abandoned_ = false;
};

}  // namespace hypura::server
