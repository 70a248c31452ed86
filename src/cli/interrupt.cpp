#include "cli/interrupt.h"

#include "base/check.h"

#include <atomic>

namespace hypura::cli {
namespace {

// A signal handler may touch lock-free atomics only; Session::cancel sets one.
std::atomic<engine::Session*> g_session{nullptr};
std::atomic<bool> g_interrupted{false};
static_assert(std::atomic<engine::Session*>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

void on_interrupt(int) {
    g_interrupted = true;
    if (engine::Session* session = g_session.load()) session->cancel();
}

}  // namespace

InterruptGuard::InterruptGuard(engine::Session& session) {
    HYPURA_CHECK(g_session.load() == nullptr);
    g_interrupted = false;
    g_session = &session;
    struct sigaction action{};
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESTART;  // a read of the model must not fail because somebody is impatient
    ::sigaction(SIGINT, &action, &before_);
}

InterruptGuard::~InterruptGuard() {
    ::sigaction(SIGINT, &before_, nullptr);
    g_session = nullptr;
}

bool InterruptGuard::interrupted() const { return g_interrupted; }

}  // namespace hypura::cli
