// Experts that the next layer will probably name, brought into its device slots while the device computes this one.
//
// At the cut behind a layer's router the host knows what that router saw; a later layer's router, applied to it, knows
// most of what that layer will name (router_guess.h). Guessed experts that lie in RAM slots and have no device slot are
// written to the coldest ones by threads of our own (device_writer.h), until that layer is routed. Then its device's
// own queue, which is faster but does not work beside a computation, brings what is left of those that were named.
//
// Belongs to the thread that runs the model, but for what its writer does. Internal to this folder.
#pragma once

#include "base/status.h"
#include "engine/device_bank.h"
#include "engine/device_writer.h"
#include "engine/expert_compute.h"
#include "engine/router_guess.h"
#include "residency/slot_cache.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace hypura::engine {

class UploadAhead {
public:
    // For the layer whose device slots are `bank`.
    struct Order {
        DeviceBank* bank = nullptr;
        RouterTrace here, later;             // in the host's memory
        const ggml_tensor* input = nullptr;  // what the router `here` saw
        size_t top_k = 0;
        std::vector<const std::byte*> in_ram;         // by expert: its RAM slot, if all of it is there
        const residency::SlotCache* cache = nullptr;  // asked for nothing but specs, which never change
        residency::PageId first_page = 0;
    };

    static Result<std::unique_ptr<UploadAhead>> create(uint32_t threads);

    // A pass begins: what has not been worth an upload is tried again now and then.
    void begin_pass() { ++passes_; }
    bool is_worth_asking() const;

    // Begins to guess. Everything that `order` points to stays as it is until settle() or abandon(). No other order is
    // in hand.
    void begin(Order order);
    // What the device waits for has been uploaded: from now on what was guessed is.
    void allow_writes() { writer_->allow_writes(); }

    // `bank`'s layer is routed to `named`. Tells the bank which of them have been brought, and of what else the order
    // in hand brought. An order for another bank is dropped. An error is that of the guess.
    Status settle(DeviceBank* bank, std::span<const uint32_t> named);
    // From then to finish(): whether that expert, which was named, has been brought to that bank, or a part of it.
    bool has_brought(const DeviceBank* bank, uint32_t expert) const {
        return bank != nullptr && bank == settled_bank_ && brought_[expert] != 0;
    }
    // What is left of those: for the caller to upload.
    std::span<const DeviceWriter::Matrix> rest() const { return rest_; }
    // The rest has been uploaded.
    void finish();

    // A pass has failed: drops what is in hand, and what was not finished.
    void abandon();

    uint64_t written_bytes() const { return written_bytes_; }

private:
    // An expert and the slot that it is brought to: a load of the writer's.
    struct Candidate {
        uint32_t expert = 0;
        uint32_t slot = 0;
    };
    // How far a load came.
    struct Progress {
        bool is_begun = false;
        bool is_complete = true;
    };

    UploadAhead(std::unique_ptr<DeviceWriter> writer, ExpertCompute compute)
        : compute_(std::move(compute)), writer_(std::move(writer)) {}
    std::vector<DeviceWriter::Load> choose();
    void find_absent();
    void find_slots();
    DeviceWriter::Load load_of(const Candidate& candidate) const;
    void note_progress();
    void add_to_rest(const DeviceWriter::Matrix& part);
    void tell_bank();

    static constexpr float kLeastPrecision = 0.5F;  // a wrong guess is dropped as soon as it is known to be wrong

    ExpertCompute compute_;
    RouterGuess guess_;
    GuessTrust trust_{kLeastPrecision};
    uint32_t passes_ = 0;

    Order order_;                        // in hand, if it has a bank
    std::vector<uint32_t> coldest_;      // the bank's slots, in the order in which experts leave
    std::vector<ExpertGuess> absent_;    // guesses that would have to be uploaded
    std::vector<Candidate> candidates_;  // a load each
    std::vector<uint8_t> guessed_;       // by expert
    Status failure_;                     // of the guess

    DeviceBank* settled_bank_ = nullptr;  // between settle() and finish()
    std::vector<uint8_t> named_;          // by expert
    std::vector<uint8_t> brought_;        // by expert
    std::vector<Progress> progress_;      // by load
    std::vector<DeviceWriter::Matrix> rest_;
    std::vector<uint32_t> unfinished_;  // slots that the rest belongs to
    uint64_t written_bytes_ = 0;

    std::unique_ptr<DeviceWriter> writer_;  // ends before what it writes from
};

}  // namespace hypura::engine
