#include "engine/draft_pace.h"

#include <algorithm>

namespace hypura::engine {
namespace {

constexpr double kTimeWeight = 0.25;    // of the newest pass of a size
constexpr double kDraftWeight = 0.05;   // of the newest tested token
constexpr uint64_t kKnownPasses = 128;  // after so many, the time of a size is asked again
constexpr uint64_t kRestPasses = 32;    // without drafts; then one token is tried

void approach(double& average, double value, double weight) { average += weight * (value - average); }

}  // namespace

DraftBasis basis_of_match(size_t matched_tokens) {
    if (matched_tokens >= 8) return DraftBasis::kMatch8;
    if (matched_tokens >= 4) return DraftBasis::kMatch4;
    return static_cast<DraftBasis>(matched_tokens - 1);
}

bool DraftPace::is_known(size_t tokens) const {
    const PassTime& time = times_[tokens];
    return time.noted_at > 0 && passes_ - time.noted_at < kKnownPasses;
}

// Between known sizes by proportion; beyond the largest known as if more tokens were free, so that they are tried.
double DraftPace::pass_us(size_t tokens) const {
    size_t below = tokens;
    while (below > 0 && !is_known(below)) --below;
    size_t above = tokens;
    while (above < times_.size() && !is_known(above)) ++above;
    if (below == 0) return above < times_.size() ? times_[above].us : 1;
    if (above == times_.size() || above == below) return times_[below].us;
    const double share = static_cast<double>(tokens - below) / static_cast<double>(above - below);
    return times_[below].us + share * (times_[above].us - times_[below].us);
}

size_t DraftPace::best(double right, size_t sequences, size_t most) const {
    double expected = 1, chance = 1;  // tokens that a sequence gains; that the draft is right so far
    size_t best_length = 0;
    double best_rate = expected / pass_us(sequences);
    for (size_t length = 1; length <= most; ++length) {
        chance *= right;
        expected += chance;
        const double rate = expected / pass_us(sequences * (1 + length));
        if (rate > best_rate) best_rate = rate, best_length = length;
    }
    return best_length;
}

size_t DraftPace::tokens(DraftBasis basis, size_t sequences, size_t most) const {
    if (sequences == 0 || sequences > kMostPassTokens / 2 || !is_known(sequences)) return 0;
    most = std::min(most, kMostPassTokens / sequences - 1);
    if (most == 0) return 0;
    const size_t length = best(record(basis).right, sequences, most);
    return length == 0 && passes_ - record(basis).drafted_at >= kRestPasses ? 1 : length;
}

void DraftPace::note_pass(size_t tokens, int64_t elapsed_us) {
    ++passes_;
    if (tokens >= times_.size()) return;
    PassTime& time = times_[tokens];
    const auto us = static_cast<double>(std::max<int64_t>(elapsed_us, 1));
    if (is_known(tokens))
        approach(time.us, us, kTimeWeight);
    else
        time.us = us;
    time.noted_at = passes_;
}

void DraftPace::note_draft(DraftBasis basis, size_t drafted, size_t accepted) {
    if (drafted == 0) return;
    Record& record = records_[static_cast<size_t>(basis)];
    record.drafted_at = passes_;
    for (size_t i = 0; i < accepted; ++i) approach(record.right, 1, kDraftWeight);
    if (accepted < drafted) approach(record.right, 0, kDraftWeight);
}

}  // namespace hypura::engine
