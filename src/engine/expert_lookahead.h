// Which experts of the next layers to read while this one computes: guesses of router_guess.h that have proved right
// often enough, as many as keep the disk from falling idle.
//
// A routing first reads what it needs itself. Behind that, in the same submission, go guesses of the next layer, as
// many as this one lacked and a few more, so that the disk works while the rest of this layer and the next one's
// attention are computed; where little is under way, layers further ahead are asked too. What turns out wrong loses its
// promise and ages like any other page. Once a whole pass has lacked nothing, nobody guesses.
//
// A pass of many tokens names nearly all experts of each layer: then nobody is asked about layers beyond the routers'
// reach, and all that they lack is read in the order of the layers. What memory holds lies together, since the policy
// gives up the layers behind the one that is computed; by this the disk works from the second layer of a pass on.
#pragma once

#include "base/status.h"
#include "engine/device_bank.h"
#include "engine/expert_compute.h"
#include "engine/router_guess.h"
#include "residency/slot_cache.h"

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace hypura::engine {

class ExpertLookahead {
public:
    // In the order in which a graph routes them.
    struct Layer {
        residency::PageId first_page = 0;  // page of expert e: first_page + e
        uint32_t experts = 0;
        uint32_t slices = 1;  // reads that a page takes
        RouterTrace router;   // weights that are in the host's memory, or nothing: then nobody guesses this layer
        const DeviceBank* bank = nullptr;  // device slots: an expert that has one need not be read
    };
    void add_layer(const Layer& layer) { layers_.push_back({layer, {}, {}, {}}); }

    struct Routing {
        std::span<const int32_t> ids;  // [top_k] of each token
        size_t top_k = 1;
        // All experts as RouterGuess::sample_token() ranks them, best first; empty where that is not known.
        std::span<const int32_t> ranking;
        size_t tokens() const { return ids.size() / top_k; }
    };

    void begin_pass();

    // `layer` has been routed, and `demanded` are needed for that: learns from the guesses that were made for it. Call
    // it before those pages are acquired.
    void judge(size_t layer, const Routing& routing, std::span<const residency::PageId> demanded,
               residency::SlotCache& cache);

    // Whether choose() would look at its input, as far as the routing before this one shows: from a device it has to be
    // fetched first.
    bool wants_input(size_t layer, const residency::SlotCache& cache) const;

    // Behind judge(layer): pages to read behind the routing's own, best first. `input` is what the layer's router saw.
    // Valid until the next call.
    Result<std::span<const residency::PageId>> choose(size_t layer, const ggml_tensor* input, size_t top_k,
                                                      const residency::SlotCache& cache, ExpertCompute& compute);

private:
    enum PassKind : uint8_t { kOneToken, kSomeTokens, kManyTokens, kPassKinds };
    // What was guessed of one layer from one before it, as far as it was absent then.
    struct Forecast {
        uint32_t tokens = 0;
        std::vector<ExpertGuess> absent;
        std::vector<float> sample;   // RouterGuess::sample()
        GuessCorrection correction;  // of all that has been guessed
        void forget() {
            absent.clear();
            sample.clear();
        }
    };
    struct Forecasts {
        Layer layer;
        std::array<Forecast, RouterGuess::kMostLayersAhead> by_distance;
        std::vector<residency::PageId> chosen;  // to be read, and not judged yet
        std::optional<bool> narrows;            // computed fewer tokens than the pass has, when it had several
    };
    void note_named(const Layer& layer, std::span<const int32_t> ids);
    void note_width(Forecasts& judged, size_t tokens);
    bool is_narrow(size_t layer) const;
    void learn(Forecasts& judged, const Routing& routing);
    void withdraw_wrong(Forecasts& judged, residency::SlotCache& cache);
    void note_lack(std::span<const residency::PageId> demanded, const residency::SlotCache& cache);
    static bool is_missing(const Layer& layer, uint32_t expert, const residency::SlotCache& cache);
    const GuessTrust& trust() const { return trust_[kind_]; }
    bool is_worth_asking(size_t layer, size_t layers_ahead, const residency::SlotCache& cache) const;
    void note_absent(Forecasts& target, size_t layers_ahead, uint32_t tokens, const residency::SlotCache& cache);
    void choose_trusted(Forecasts& target, size_t layers_ahead, size_t most_pages);
    size_t most_pages_ahead(size_t layers_ahead, size_t under_way) const;
    void choose_whole_layers(size_t layer, size_t most_pages, const residency::SlotCache& cache);
    void choose_page(Forecasts& target, uint32_t expert);

    std::vector<Forecasts> layers_;
    RouterGuess guess_;
    std::array<GuessTrust, kPassKinds> trust_;
    PassKind kind_ = kOneToken;  // of the last judged routing
    uint32_t passes_ = 0;
    size_t missing_ = 0;   // of the last judged routing's pages, those that have to be read now
    size_t foreseen_ = 0;  // those that guesses brought, or are bringing
    size_t routings_without_lack_ = 0;
    bool asks_ = true;                      // the next layers, after the last judged routing
    bool names_nearly_all_ = false;         // the last judged routing, of many tokens, of its layer's experts
    size_t pass_tokens_ = 0;                // the most that a layer of this pass was routed with
    std::vector<residency::PageId> pages_;  // of choose()
    std::vector<uint8_t> named_;            // scratch of judge(): by expert
    std::vector<residency::PageId> wrong_;  // likewise
    std::vector<ExpertGuess> trusted_;      // scratch of choose_trusted()
};

}  // namespace hypura::engine
