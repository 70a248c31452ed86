// Tells those who work for a request, perhaps in several sequences, that its client has gone.
//
// Thread contract: every function may be called from any thread.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace hypura::server {

class ClientLink {
public:
    // Telling happens under the lock: once all_done() has returned, what a function refers to may go away.
    void abandon() {
        const std::scoped_lock lock(mutex_);
        abandoned_ = true;
        for (const auto& tell : std::exchange(tell_, {})) tell();
    }
    bool abandoned() const {
        const std::scoped_lock lock(mutex_);
        return abandoned_;
    }
    // `tell` is called at once if the client has gone already.
    void when_abandoned(std::function<void()> tell) {
        const std::scoped_lock lock(mutex_);
        if (abandoned_)
            tell();
        else
            tell_.push_back(std::move(tell));
    }
    void all_done() {
        const std::scoped_lock lock(mutex_);
        tell_.clear();
    }

private:
    mutable std::mutex mutex_;
    std::vector<std::function<void()>> tell_;
    bool abandoned_ = false;
};
using ClientPointer = std::shared_ptr<ClientLink>;

}  // namespace hypura::server
