// CUDA's names for code that runs on a processor: one block after another, the threads of a block as coroutines that go on
// to the next barrier in turn.
#pragma once
#define ON_A_PROCESSOR
#include <ucontext.h>

#include <cstring>
#include <functional>
#include <vector>

#define __device__ static inline
#define __global__ static
#define __shared__ static

struct Three {
    unsigned x, y, z;
};
static Three threadIdx, blockIdx, blockDim, gridDim;

static float as_float(unsigned short bits) {
    _Float16 value;
    std::memcpy(&value, &bits, 2);
    return (float)value;
}
static unsigned short as_half(float value) {
    _Float16 half = (_Float16)value;
    unsigned short bits;
    std::memcpy(&bits, &half, 2);
    return bits;
}
static unsigned int bits_of(float value) {
    unsigned int bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
static int atomicAdd(int* place, int value) {
    int before = *place;
    *place += value;
    return before;
}

namespace block {
static ucontext_t scheduler;
static std::vector<ucontext_t> threads;
static std::vector<std::vector<char>> stacks;
static std::vector<char> done;
static size_t running;
static std::function<void()> work;

static void begin() {
    work();
    done[running] = 1;
}
static void wait() { swapcontext(&threads[running], &scheduler); }

static void place_thread(size_t index) {
    running = index;
    threadIdx = {unsigned(index % blockDim.x), unsigned(index / blockDim.x % blockDim.y),
                 unsigned(index / blockDim.x / blockDim.y)};
}

static void run(Three grid, Three size, std::function<void()> kernel) {
    gridDim = grid;
    blockDim = size;
    work = kernel;
    size_t count = size_t(size.x) * size.y * size.z;
    threads.resize(count);
    if (stacks.size() < count) stacks.resize(count, std::vector<char>(64 << 10));
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = {x, y, z};
                done.assign(count, 0);
                for (size_t index = 0; index < count; index++) {
                    getcontext(&threads[index]);
                    threads[index].uc_stack.ss_sp = stacks[index].data();
                    threads[index].uc_stack.ss_size = stacks[index].size();
                    threads[index].uc_link = &scheduler;
                    makecontext(&threads[index], begin, 0);
                }
                for (bool left = true; left;) {
                    left = false;
                    for (size_t index = 0; index < count; index++)
                        if (!done[index]) {
                            place_thread(index);
                            swapcontext(&scheduler, &threads[index]);
                            left = left || !done[index];
                        }
                }
            }
}
}  // namespace block

static void __syncthreads() { block::wait(); }
