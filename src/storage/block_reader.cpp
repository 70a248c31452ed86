// Whole-or-failed reads: a block is widened to its aligned window, cut into pieces, and each piece is read until every
// byte that the block needs has come, or until its retries are used up.
//
//   file      ──────[ window.begin ··· offset ═══════ block ═══════ offset + bytes ··· window.end ]──────
//   memory    [window.memory  (piece)(piece)(piece) …                ]   then, if it is not yet there:
//                      [destination ═══════ block ═══════]               one memmove by less than an alignment unit
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "storage/reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <system_error>

namespace hypura::storage {
namespace {

// Alignments are at most half the slack (DirectFile sees to it), so pieces of this granularity keep every alignment.
constexpr uint32_t kPieceGranularity = BlockReader::kSlackBytes / 2;

// The aligned file range around a block, and where it is read to.
struct Window {
    uint64_t begin = 0;
    uint64_t end = 0;
    std::byte* memory = nullptr;
};

struct Block {
    BlockRead read;
    Window window;
    uint64_t pieces_left = 0;
    Status status = {};  // the first piece to fail decides; the others are waited for

    uint64_t end() const { return read.offset + read.bytes; }
};

struct Piece {
    size_t block = 0;
    uint64_t position = 0;  // where the read in flight begins; always aligned
    uint64_t end = 0;
    uint32_t stalls = 0;  // reads in a row that brought no progress
};

// Values under small indices that stay valid until removed, for use as tags.
template <class T>
class Slots {
public:
    size_t add(T value) {
        if (free_.empty()) {
            values_.push_back(std::move(value));
            return values_.size() - 1;
        }
        const size_t index = free_.back();
        free_.pop_back();
        values_[index] = std::move(value);
        return index;
    }
    void remove(size_t index) { free_.push_back(index); }
    size_t size() const { return values_.size() - free_.size(); }
    T& operator[](size_t index) { return values_[index]; }
    const T& operator[](size_t index) const { return values_[index]; }

private:
    std::vector<T> values_;
    std::vector<size_t> free_;
};

Window plan_window(const BlockRead& read, const DirectFile& file) {
    const uint64_t begin = align_down(read.offset, file.offset_alignment());
    const uint64_t end = align_up(read.offset + read.bytes, file.offset_alignment());
    std::byte* in_place = read.destination - (read.offset - begin);
    // Zero when destination and offset are congruent. Otherwise the window lands lower, inside the slack.
    const uint64_t shift = reinterpret_cast<uintptr_t>(in_place) % file.memory_alignment();
    return {begin, end, in_place - shift};
}

void move_into_place(const Block& block) {
    const std::byte* arrived = block.window.memory + (block.read.offset - block.window.begin);
    if (arrived != block.read.destination) std::memmove(block.read.destination, arrived, block.read.bytes);
}

// How many reads in a row may end this way without progress before the block is given up.
uint32_t patience(int64_t result) {
    if (result == -EINTR || result == -EAGAIN || result > 0) return 8;
    // Each EIO can cost seconds of the device's own retries; and a file that ended stays ended.
    if (result == -EIO || result == 0) return 2;
    return 0;
}

Error read_error(const DirectFile& file, const Block& block, uint64_t position, int64_t result) {
    const BlockRead& read = block.read;
    if (result == 0) {
        return {ErrorCode::kModelChanged,
                std::format("{}: the file is shorter than when it was opened ({} bytes): it has no data at offset {}, "
                            "needed for {} (offset {}, {} bytes)",
                            file.path(), file.size_bytes(), position, read.what, read.offset, read.bytes)};
    }
    const std::string reason = result < 0 ? std::generic_category().message(static_cast<int>(-result))
                                          : "the device keeps returning less than was asked for";
    return {ErrorCode::kReadFailed, std::format("{}: cannot read {} (offset {}, {} bytes): {} at offset {}",
                                                file.path(), read.what, read.offset, read.bytes, reason, position)};
}

}  // namespace

struct BlockReader::State {
    std::vector<DirectFile> files;
    std::unique_ptr<RawReader> raw;  // after `files`: destroyed first, so that no read outlives its descriptor
    uint32_t piece_bytes = 0;

    Slots<Block> blocks;
    Slots<Piece> pieces;
    std::vector<RawRead> queued;             // for the next submit to `raw`
    std::vector<RawCompletion> returned;     // scratch of collect()
    std::vector<BlockCompletion> completed;  // until the next collect()
    ReadCounters counters;
    int64_t last_tick_us = 0;

    void add_block(const BlockRead& read);
    Status check_range(const BlockRead& read) const;
    void cut_into_pieces(size_t block_index);
    void queue_read(size_t piece_index);
    Status submit_queued();

    Status receive(bool block);
    void finish_read(const RawCompletion& completion);
    bool advance(Piece& piece, int64_t result);
    void finish_piece(size_t piece_index);
    void complete(const BlockRead& read, Status status);
    void tick_busy_clock();

    Block& block_of(const Piece& piece) { return blocks[piece.block]; }
    const DirectFile& file_of(const Block& block) const { return files[block.read.file]; }
};

// ---- submitting ----------------------------------------------------------------------------------------------------

void BlockReader::State::add_block(const BlockRead& read) {
    HYPURA_CHECK(read.file < files.size());
    Status range = check_range(read);
    if (!range || read.bytes == 0) return complete(read, std::move(range));
    const size_t first_piece = queued.size();
    cut_into_pieces(blocks.add({read, plan_window(read, files[read.file])}));
    queued[first_piece].behind = read.behind;
}

Status BlockReader::State::check_range(const BlockRead& read) const {
    const DirectFile& file = files[read.file];
    const auto end = checked_add(read.offset, read.bytes);
    if (end && *end <= file.size_bytes()) return {};
    return fail(ErrorCode::kCorruptModel, "{}: {} (offset {}, {} bytes) lies outside the file, which has {} bytes",
                file.path(), read.what, read.offset, read.bytes, file.size_bytes());
}

void BlockReader::State::cut_into_pieces(size_t block_index) {
    Block& block = blocks[block_index];
    for (uint64_t begin = block.window.begin; begin < block.window.end; begin += piece_bytes) {
        const uint64_t end = std::min(begin + piece_bytes, block.window.end);
        queue_read(pieces.add({block_index, begin, end}));
        ++block.pieces_left;
    }
}

void BlockReader::State::queue_read(size_t piece_index) {
    const Piece& piece = pieces[piece_index];
    const Block& block = block_of(piece);
    queued.push_back({.fd = file_of(block).fd(),
                      .offset = piece.position,
                      .destination = block.window.memory + (piece.position - block.window.begin),
                      .bytes = static_cast<uint32_t>(piece.end - piece.position),
                      .tag = piece_index});
}

Status BlockReader::State::submit_queued() {
    if (queued.empty()) return {};
    Status status = raw->submit(queued);
    queued.clear();
    return status;
}

// ---- finishing -----------------------------------------------------------------------------------------------------

Status BlockReader::State::receive(bool block) {
    returned.clear();
    HYPURA_TRY(raw->collect(returned, block));
    tick_busy_clock();
    for (const RawCompletion& completion : returned) finish_read(completion);
    return submit_queued();
}

void BlockReader::State::finish_read(const RawCompletion& completion) {
    const int64_t result = completion.result;
    ++counters.reads;
    if (result > 0) counters.bytes += static_cast<uint64_t>(result);

    Piece& piece = pieces[completion.tag];
    Block& block = block_of(piece);
    const bool has_all = advance(piece, result);
    const bool abandoned = !block.status;
    if (has_all || abandoned) return finish_piece(completion.tag);

    if (piece.stalls > patience(result)) {
        block.status = std::unexpected(read_error(file_of(block), block, piece.position, result));
        return finish_piece(completion.tag);
    }
    ++counters.retries;
    queue_read(completion.tag);
}

// Moves the piece on by what one read brought; true when nothing that the block needs is missing any more. The window's
// tail past the block's end may be missing: the file can end there, off every alignment.
bool BlockReader::State::advance(Piece& piece, int64_t result) {
    const Block& block = block_of(piece);
    const DirectFile& file = file_of(block);
    const uint64_t reached = piece.position + static_cast<uint64_t>(std::max<int64_t>(result, 0));
    if (reached >= std::min(piece.end, block.end())) return true;

    // The next read must begin aligned in the file and in memory, so a part of what came may be read again.
    const uint64_t alignment = std::max(file.offset_alignment(), file.memory_alignment());
    const uint64_t restart = block.window.begin + align_down(reached - block.window.begin, alignment);
    piece.stalls = restart > piece.position ? 0 : piece.stalls + 1;
    piece.position = restart;
    return false;
}

// A block completes only when all its pieces are back, failed or not: no kernel write may land after its completion.
void BlockReader::State::finish_piece(size_t piece_index) {
    const size_t block_index = pieces[piece_index].block;
    pieces.remove(piece_index);
    Block& block = blocks[block_index];
    if (--block.pieces_left > 0) return;

    if (block.status) move_into_place(block);
    complete(block.read, std::move(block.status));
    blocks.remove(block_index);
}

void BlockReader::State::complete(const BlockRead& read, Status status) {
    if (!status) ++counters.failures;
    completed.push_back({read.tag, std::move(status)});
}

// Called before the number of blocks changes, so that the time since the last call belongs to what it was until now.
void BlockReader::State::tick_busy_clock() {
    const int64_t now = now_us();
    if (blocks.size() > 0) counters.busy_us += now - last_tick_us;
    last_tick_us = now;
}

// ---- the class -----------------------------------------------------------------------------------------------------

BlockReader::BlockReader(std::unique_ptr<RawReader> raw, std::vector<DirectFile> files, uint32_t piece_bytes)
    : state_(std::make_unique<State>()) {
    state_->files = std::move(files);
    state_->raw = std::move(raw);
    state_->piece_bytes = std::max(piece_bytes / kPieceGranularity * kPieceGranularity, kPieceGranularity);
}

BlockReader::~BlockReader() = default;

Status BlockReader::submit(std::span<const BlockRead> blocks) {
    state_->tick_busy_clock();
    for (const BlockRead& block : blocks) state_->add_block(block);
    return state_->submit_queued();
}

Status BlockReader::collect(std::vector<BlockCompletion>& out, bool block) {
    const auto must_wait = [&] { return block && state_->completed.empty() && state_->blocks.size() > 0; };
    do {
        HYPURA_TRY(state_->receive(must_wait()));
    } while (must_wait());
    std::ranges::move(state_->completed, std::back_inserter(out));
    state_->completed.clear();
    return {};
}

size_t BlockReader::outstanding() const { return state_->blocks.size() + state_->completed.size(); }
const ReadCounters& BlockReader::counters() const { return state_->counters; }
const std::vector<DirectFile>& BlockReader::files() const { return state_->files; }
std::string_view BlockReader::raw_name() const { return state_->raw->name(); }

Status read_now(BlockReader& reader, const BlockRead& block) {
    HYPURA_CHECK(reader.outstanding() == 0);
    HYPURA_TRY(reader.submit({&block, 1}));
    std::vector<BlockCompletion> completions;
    HYPURA_TRY(reader.collect(completions, true));
    return std::move(completions.front().status);
}

}  // namespace hypura::storage
