#include "engine/upload_ahead.h"

#include "base/check.h"

#include <algorithm>
#include <utility>

namespace hypura::engine {
namespace {

constexpr uint32_t kPassesBetweenTrials = 8;  // while guesses have not been worth an upload

}  // namespace

Result<std::unique_ptr<UploadAhead>> UploadAhead::create(uint32_t threads) {
    HYPURA_ASSIGN(auto writer, DeviceWriter::create(threads));
    HYPURA_ASSIGN(auto compute, ExpertCompute::create(1));
    return std::unique_ptr<UploadAhead>(new UploadAhead(std::move(writer), std::move(compute)));
}

bool UploadAhead::is_worth_asking() const { return trust_.is_worthwhile(1) || passes_ % kPassesBetweenTrials == 0; }

void UploadAhead::begin(Order order) {
    HYPURA_CHECK(order_.bank == nullptr && order.bank != nullptr);
    order_ = std::move(order);
    absent_.clear();
    candidates_.clear();
    failure_ = {};
    order_.bank->list_coldest(coldest_);
    writer_->begin([this] { return choose(); });
}

// On a thread of the writer's.
std::vector<DeviceWriter::Load> UploadAhead::choose() {
    // Corrected guesses brought 1 % more of what was named, and left the RAM slots with less (docs/residency.md).
    failure_ = guess_.make(compute_, order_.here, order_.later, order_.input, order_.top_k, {});
    if (!failure_) return {};
    find_absent();
    find_slots();
    std::vector<DeviceWriter::Load> loads;
    loads.reserve(candidates_.size());
    for (const Candidate& candidate : candidates_) loads.push_back(load_of(candidate));
    return loads;
}

// Best first; an expert that several tokens are likely to name counts once.
void UploadAhead::find_absent() {
    guessed_.assign(order_.in_ram.size(), 0);
    absent_.assign(guess_.guesses().begin(), guess_.guesses().end());
    std::ranges::sort(absent_, std::greater{}, &ExpertGuess::margin);
    std::erase_if(absent_, [&](const ExpertGuess& guess) {
        if (std::exchange(guessed_[guess.expert], uint8_t{1}) != 0) return true;
        return order_.in_ram[guess.expert] == nullptr || order_.bank->slot_of(guess.expert) >= 0;
    });
}

// A slot for each trusted guess, but none that holds another guess.
void UploadAhead::find_slots() {
    auto slot = coldest_.begin();
    for (const ExpertGuess& guess : absent_) {
        if (!trust_.is_trusted(1, guess.margin)) continue;
        slot = std::find_if(slot, coldest_.end(), [&](uint32_t candidate) {
            const int32_t expert = order_.bank->expert_in(candidate);
            return expert < 0 || guessed_[static_cast<size_t>(expert)] == 0;
        });
        if (slot == coldest_.end()) return;
        candidates_.push_back({guess.expert, *slot++});
    }
}

DeviceWriter::Load UploadAhead::load_of(const Candidate& candidate) const {
    DeviceWriter::Load load;
    const std::vector<residency::SliceSpec>& slices =
        order_.cache->page_spec(order_.first_page + candidate.expert).slices;
    for (size_t part = 0; part < slices.size(); ++part) {
        const std::byte* const data = order_.in_ram[candidate.expert] + slices[part].slot_offset;
        load.push_back(order_.bank->matrix(part, candidate.slot, data));
    }
    return load;
}

Status UploadAhead::settle(DeviceBank* bank, std::span<const uint32_t> named) {
    if (order_.bank == nullptr) return {};
    writer_->stop();
    named_.assign(order_.in_ram.size(), 0);
    if (bank == order_.bank) {
        for (const uint32_t expert : named) named_[expert] = 1;
        for (const ExpertGuess& guess : absent_) trust_.learn(1, guess.margin, named_[guess.expert] != 0);
    }
    note_progress();
    tell_bank();
    settled_bank_ = std::exchange(order_.bank, nullptr);
    return std::exchange(failure_, {});
}

void UploadAhead::note_progress() {
    progress_.assign(candidates_.size(), {});
    rest_.clear();
    for (const DeviceWriter::Piece& piece : writer_->written()) {
        progress_[piece.load].is_begun = true;
        written_bytes_ += piece.part.bytes;
    }
    for (const DeviceWriter::Piece& piece : writer_->left()) {
        progress_[piece.load].is_complete = false;
        if (named_[candidates_[piece.load].expert] != 0) add_to_rest(piece.part);
    }
}

// As few transfers as possible: each costs the device's queue some microseconds.
void UploadAhead::add_to_rest(const DeviceWriter::Matrix& part) {
    if (!rest_.empty()) {
        DeviceWriter::Matrix& last = rest_.back();
        if (last.tensor == part.tensor && last.offset + last.bytes == part.offset &&
            last.data + last.bytes == part.data) {
            last.bytes += part.bytes;
            return;
        }
    }
    rest_.push_back(part);
}

// A slot that was written to has lost what it held.
void UploadAhead::tell_bank() {
    brought_.assign(order_.in_ram.size(), 0);
    unfinished_.clear();
    for (size_t load = 0; load < candidates_.size(); ++load) {
        const auto [expert, slot] = candidates_[load];
        const Progress& progress = progress_[load];
        if (named_[expert] != 0 || progress.is_complete)
            order_.bank->adopt(expert, slot);
        else if (progress.is_begun)
            order_.bank->vacate(slot);
        brought_[expert] = named_[expert];
        if (named_[expert] != 0 && !progress.is_complete) unfinished_.push_back(slot);
    }
}

void UploadAhead::finish() {
    settled_bank_ = nullptr;
    rest_.clear();
    unfinished_.clear();
}

void UploadAhead::abandon() {
    for (const uint32_t slot : unfinished_) settled_bank_->vacate(slot);
    finish();
    (void)settle(nullptr, {});  // whether the guess failed does not matter any more
    finish();
}

}  // namespace hypura::engine
