// Ctrl-C stops the answer, not the program.
#pragma once

#include "engine/engine.h"

#include <csignal>

namespace hypura::cli {

// While it lives, SIGINT cancels `session`; the handler that was there before comes back afterwards. One at a time.
class InterruptGuard {
public:
    explicit InterruptGuard(engine::Session& session);
    InterruptGuard(const InterruptGuard&) = delete;
    InterruptGuard& operator=(const InterruptGuard&) = delete;
    ~InterruptGuard();

    // Seen since the guard began. Callers ask between tokens, where no evaluate() is in flight to be cancelled.
    bool interrupted() const;

private:
    struct sigaction before_{};
};

}  // namespace hypura::cli
