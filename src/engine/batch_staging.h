// Whole parts of a layer on the device, for batches that name more experts than the layer has device slots.
//
// A part (all gate matrices, say) is put together in a staging buffer: what the device slots hold is copied within the
// device, the other experts are uploaded, those behind the slots that no slot is free for. libllama's node multiplies
// by the buffer as by a weight of its own, so that nothing of the result depends on what was where or came when. There
// are two buffers: while the device computes with one part, the next one is put together, that of the next layer
// included.
//
// Belongs to the thread that runs the model. Internal to this folder.
#pragma once

#include "base/status.h"
#include "engine/device_bank.h"
#include "engine/upload_queue.h"
#include "residency/slot_cache.h"

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace hypura::engine {

class BatchStaging {
public:
    // Of a layer's parts the largest takes `part_bytes`: there is memory for two such.
    // `writers`: threads that upload beside the device's queue, where they can.
    static Result<std::unique_ptr<BatchStaging>> create(const DeviceStream& stream, uint64_t part_bytes,
                                                        uint32_t writers);

    // A layer whose device slots are `bank`, which is this staging's.
    struct Layer {
        DeviceBank* bank = nullptr;
        residency::PageId first_page = 0;
    };
    // Begins a routing of `layer`: `wanted` are experts that its slots do not hold, all pinned and on their way into
    // RAM slots; the first of them, as many as slots are free for, are kept there. `later` is the layer that comes
    // next, if it will name nearly all of its experts, else nothing: it is begun as soon as there is a buffer for it.
    // Behind settle(). What is wanted stays pinned, and the bank as it is, until end(). kUnsupportedModel where another
    // routing is in hand.
    Status begin(const Layer& layer, const Layer& later, residency::SlotCache& cache, std::span<const uint32_t> wanted);
    // The index tensor of the routing in hand (DeviceBank::fill_index).
    ggml_tensor* fill_index(const ggml_tensor* ids, std::span<const int32_t> experts);

    // That part as a tensor [columns, rows, matrices]. Blocks until it is complete.
    Result<ggml_tensor*> bring(size_t part);
    // The device has computed with it: its buffer is another part's.
    Status release(size_t part);
    // The routing is over, or has failed: then slots are free again that were to be filled.
    void end();

    // Behind end(), before RAM slots change or the bank does: until begin() nothing is read from them.
    void settle();
    // The pass is over, or has failed: behind end(). Drops what was begun for a later layer.
    void abandon();

    uint64_t uploaded_bytes() const { return uploaded_bytes_; }

private:
    // An expert that has to be uploaded, and which matrix of a buffer it becomes.
    struct Place {
        uint32_t expert = 0;
        uint32_t matrix = 0;
    };
    struct Routing {
        Layer layer;  // without a bank: none
        std::vector<Place> places;
        uint32_t matrices = 0;            // of a buffer
        size_t next_part = 0;             // the first that no buffer was begun for
        std::vector<uint8_t> is_brought;  // by part
        bool fills_slots = false;
    };
    struct Buffer {
        BufferHandle memory;
        ggml_tensor* all = nullptr;   // of the part in hand
        ggml_tensor* head = nullptr;  // as many of these as the bank has slots
        Routing* routing = nullptr;   // null: the buffer is free
        size_t part = 0;
        std::vector<UploadQueue::Ticket> uploads;  // by place; 0: not yet
        size_t uploads_left = 0;
        UploadQueue::Ticket copy = 0;  // of the bank's slots, behind the uploads; 0: not yet
        UploadQueue::Ticket last = 0;  // of all
    };

    BatchStaging() = default;
    void guess(const Layer& layer);
    Status adopt_guess(std::span<const uint32_t> wanted);
    Status adopt(Buffer& buffer, std::span<const size_t> kept);
    void place(Routing& routing, std::span<const uint32_t> wanted);
    Status fill_free_buffers();
    Routing* next_routing();
    Status fill(Buffer& buffer, Routing& routing, size_t part);
    Status shape(Buffer& buffer) const;
    Status push_arrived(Buffer& buffer);
    void push(Buffer& buffer, size_t place);
    Result<Buffer*> buffer_for(size_t part);
    void drop(Routing& routing);

    std::unique_ptr<UploadQueue> queue_;
    GgmlContextHandle context_;
    std::array<Buffer, 2> buffers_;
    residency::SlotCache* cache_ = nullptr;
    Routing current_;
    Routing upcoming_;  // guessed
    uint64_t uploaded_bytes_ = 0;
};

}  // namespace hypura::engine
