// What comes before and after a vision model: pictures brought to its input, boxes read from its output.
//
// The arithmetic is that of run-core's dsp/fit.py, dsp/heads.py and dsp/boxes.py. Nothing is included, so that NVRTC needs
// no header; and it is plain C++ beside the names of CUDA, so that the tests run it on a processor as well.

#define TILE_X 32
#define TILE_Y 8
#define PAD_VALUE 114.0f
// A coordinate beyond this, or one that is not a number, is a fault of the model.
#define FAR_AWAY 1e6f
// The most boxes of a picture that are compared with each other here; with more of them the host reads the output.
#define MOST_FOUND 16384
// How many of them are compared at once, each by a thread of its own: the surest, then the next, ... And bits for them.
#define CHUNK 256
#define WORDS (CHUNK / 64)
// Up to how many of them are sorted in shared memory.
#define NEAR 2048
// The most boxes of a picture that are told.
#define MOST_KEPT 300

#ifndef ON_A_PROCESSOR
__device__ float as_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
__device__ unsigned short as_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
__device__ unsigned int bits_of(float value) { return __float_as_uint(value); }
#endif

__device__ float as_float(float value) { return value; }
__device__ void store(float* place, float value) { *place = value; }
__device__ void store(unsigned short* place, float value) { *place = as_half(value); }

// One picture of a batch, and how its boxes are chosen. 64 bytes; the host fills it in.
struct Picture {
    unsigned long long pixels;  // address of uint8 [height, width, 3]
    int width, height;
    int across, down;  // its size in the input, with what a crop cuts off
    int left, top;     // where it begins in the input; negative where it is cropped
    int row;           // bytes of a row
    float confidence, iou;
    int limit;  // the most boxes
    int unused[4];
};

// A box. The row before a picture's boxes has, as integers: boxes sure enough, boxes told, whether there were too many.
struct Box {
    float x1, y1, x2, y2, score;
    int kind, place, unused;
};

__device__ long long floor_divided(long long a, long long b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

// The samples of one axis that output sample `at` depends on: where the triangle, as wide as two samples of the coarser
// of the two grids, is above zero. Everything is scaled by 2 * resized, so that only integers occur.
__device__ void reach_of(long long at, long long size, long long resized, int* first, int* last) {
    const long long reach = 2 * (size > resized ? size : resized), centre = (2 * at + 1) * size;
    const long long low = floor_divided(centre - reach - resized, 2 * resized) + 1;
    const long long high = -floor_divided(-(centre + reach - resized), 2 * resized) - 1;
    *first = (int)(low > 0 ? low : 0);
    *last = (int)(high < size - 1 ? high : size - 1);
}

// Its weight, times `reach` of above.
__device__ float weight_of(long long sample, long long at, long long size, long long resized) {
    const long long reach = 2 * (size > resized ? size : resized);
    const long long apart = (2 * sample + 1) * resized - (2 * at + 1) * size;
    return (float)(reach - (apart < 0 ? -apart : apart));
}

template <typename Element>
__device__ void fit(
    const Picture* pictures, Element* input, int width, int height, int channels_last, float factor_red,
    float factor_green, float factor_blue, float offset_red, float offset_green, float offset_blue, int* counts) {
    __shared__ int first_x[TILE_X], last_x[TILE_X], first_y[TILE_Y], last_y[TILE_Y];
    const Picture picture = pictures[blockIdx.z];
    const int thread = threadIdx.y * TILE_X + threadIdx.x;
    const int x = blockIdx.x * TILE_X + threadIdx.x, y = blockIdx.y * TILE_Y + threadIdx.y;
    // A picture that has its size in the input already is only brought to the input's numbers.
    const bool as_it_is = picture.width == picture.across && picture.height == picture.down;
    if (!as_it_is && thread < TILE_X) {
        const int at = blockIdx.x * TILE_X + thread - picture.left;
        reach_of(at, picture.width, picture.across, &first_x[thread], &last_x[thread]);
    } else if (!as_it_is && thread < TILE_X + TILE_Y) {
        const int row = thread - TILE_X, at = blockIdx.y * TILE_Y + row - picture.top;
        reach_of(at, picture.height, picture.down, &first_y[row], &last_y[row]);
    }
    if (counts != 0 && blockIdx.x == 0 && blockIdx.y == 0 && thread == 0) counts[blockIdx.z] = 0;
    __syncthreads();
    if (x >= width || y >= height) return;

    const int at_x = x - picture.left, at_y = y - picture.top;
    float red = PAD_VALUE, green = PAD_VALUE, blue = PAD_VALUE;
    const bool inside = at_x >= 0 && at_x < picture.across && at_y >= 0 && at_y < picture.down;
    if (inside && as_it_is) {
        const unsigned char* pixel = (const unsigned char*)picture.pixels + (long long)at_y * picture.row + at_x * 3LL;
        red = pixel[0];
        green = pixel[1];
        blue = pixel[2];
    } else if (inside) {
        const int left = first_x[threadIdx.x], right = last_x[threadIdx.x];
        const int top = first_y[threadIdx.y], bottom = last_y[threadIdx.y];
        const unsigned char* pixels = (const unsigned char*)picture.pixels;
        float whole_x = 0.0f, whole_y = 0.0f;
        red = green = blue = 0.0f;
        for (int column = left; column <= right; column++)
            whole_x += weight_of(column, at_x, picture.width, picture.across);
        for (int line = top; line <= bottom; line++) {
            const unsigned char* pixel = pixels + (long long)line * picture.row + left * 3LL;
            float line_red = 0.0f, line_green = 0.0f, line_blue = 0.0f;
            for (int column = left; column <= right; column++, pixel += 3) {
                const float weight = weight_of(column, at_x, picture.width, picture.across);
                line_red += weight * pixel[0];
                line_green += weight * pixel[1];
                line_blue += weight * pixel[2];
            }
            const float weight = weight_of(line, at_y, picture.height, picture.down);
            whole_y += weight;
            red += weight * line_red;
            green += weight * line_green;
            blue += weight * line_blue;
        }
        const float whole = whole_x * whole_y;
        red /= whole;
        green /= whole;
        blue /= whole;
    }
    const long long plane = (long long)width * height, place = (long long)y * width + x;
    Element* out = input + blockIdx.z * plane * 3 + (channels_last ? place * 3 : place);
    const long long step = channels_last ? 1 : plane;
    store(out, red * factor_red - offset_red);
    store(out + step, green * factor_green - offset_green);
    store(out + 2 * step, blue * factor_blue - offset_blue);
}

// Of a head in YOLOv8's layout, the boxes that are sure enough. One thread for each place.
template <typename Element>
__device__ void collect(
    const Picture* pictures, const Element* table, int channels, int kinds, int places, int step_channel,
    int step_place, const unsigned char* wanted, int room, Box* found, int* counts) {
    const int place = blockIdx.x * blockDim.x + threadIdx.x, image = blockIdx.y;
    if (place >= places) return;
    const Element* at = table + (long long)image * channels * places + (long long)place * step_place;
    float best = -1.0f;  // what is not sure enough is left out anyway, and no confidence is below 0
    int kind = 0;
#pragma unroll 8
    for (int index = 0; index < kinds; index++) {
        const float score = as_float(at[(long long)(4 + index) * step_channel]);
        if (score > best) {  // never true of what is not a number
            best = score;
            kind = index;
        }
    }
    if (!(best >= pictures[image].confidence) || best > 3.4028234e38f || !wanted[(long long)image * kinds + kind]) return;
    float edges[4];
    for (int index = 0; index < 4; index++) {
        edges[index] = as_float(at[(long long)index * step_channel]);
        if (!(edges[index] < FAR_AWAY && edges[index] > -FAR_AWAY)) return;
    }
    const float half_width = edges[2] / 2.0f, half_height = edges[3] / 2.0f;
    Box box;
    box.x1 = edges[0] - half_width;
    box.y1 = edges[1] - half_height;
    box.x2 = edges[0] + half_width;
    box.y2 = edges[1] + half_height;
    if (!(box.x2 > box.x1 && box.y2 > box.y1)) return;
    box.score = best + 0.0f;  // a zero below zero would not sort
    box.kind = kind;
    box.place = place;
    box.unused = 0;
    const int slot = atomicAdd(&counts[image], 1);
    if (slot < room) found[(long long)image * room + slot] = box;
}

// Whether `other` counts as a double of `best`, which is surer.
__device__ bool doubles(const Box& best, const Box& other, float iou) {
    if (other.kind != best.kind) return false;
    const float wide = (best.x2 < other.x2 ? best.x2 : other.x2) - (best.x1 > other.x1 ? best.x1 : other.x1);
    const float high = (best.y2 < other.y2 ? best.y2 : other.y2) - (best.y1 > other.y1 ? best.y1 : other.y1);
    if (!(wide > 0.0f && high > 0.0f)) return false;  // nothing shared is never more than the least iou, 0
    const float shared = wide * high;
    const float area = (best.x2 - best.x1) * (best.y2 - best.y1);
    const float whole = area + (other.x2 - other.x1) * (other.y2 - other.y1) - shared;
    return whole > 0.0f && shared / whole > iou;
}

// Of boxes that are doubles of each other, the surest. One block for each picture, one thread for each box of a chunk.
//
// `keys` is room for a key of every box that may be found; as many as fit are sorted in shared memory instead. `told` lies
// in the host's memory; `copy`, if there is one, is the same on the GPU.
__device__ void suppress(
    const Picture* pictures, int room, const Box* found, const int* counts, unsigned long long* keys, Box* told,
    Box* copy) {
    __shared__ unsigned long long near_keys[NEAR];
    __shared__ float x1[CHUNK], y1[CHUNK], x2[CHUNK], y2[CHUNK];
    __shared__ int kinds[CHUNK];
    // Which surer boxes of the chunk a box is a double of, a bit for each; all bits where it has no chance.
    __shared__ unsigned long long surer[CHUNK][WORDS];
    __shared__ Box kept[MOST_KEPT];
    const int image = blockIdx.x, thread = threadIdx.x, total = counts[image];
    const Picture picture = pictures[image];
    const int limit = picture.limit < MOST_KEPT ? picture.limit : MOST_KEPT;
    found += (long long)image * room;
    told += (long long)image * (1 + MOST_KEPT);
    if (copy != 0) copy += (long long)image * (1 + MOST_KEPT);
    int many = 0, more = total > room;
    if (!more) {
        // The surest first, those that are equally sure in the order of the output: the boxes came in any order.
        unsigned long long* order = total <= NEAR ? near_keys : keys + (long long)image * room;
        int size = 1;
        while (size < total) size *= 2;
        for (int slot = thread; slot < size; slot += CHUNK) {
            unsigned long long key = ~0ULL;
            if (slot < total) {
                const unsigned int sureness = bits_of(found[slot].score);  // grows with the score, never negative
                key = ((unsigned long long)~sureness << 32) | ((unsigned int)found[slot].place << 14) | slot;
            }
            order[slot] = key;
        }
        __syncthreads();
        for (int span = 2; span <= size; span *= 2) {
            for (int step = span / 2; step > 0; step /= 2) {
                for (int pair = thread; pair < size / 2; pair += CHUNK) {
                    const int slot = 2 * pair - (pair & (step - 1)), other = slot + step;
                    const unsigned long long first = order[slot], second = order[other];
                    if ((first > second) == ((slot & span) == 0)) {
                        order[slot] = second;
                        order[other] = first;
                    }
                }
                __syncthreads();
            }
        }
        for (int start = 0; start < total && !more; start += CHUNK) {
            const int here = total - start < CHUNK ? total - start : CHUNK;
            Box mine = {};
            bool chance = thread < here;
            if (chance) {
                mine = found[order[start + thread] & (MOST_FOUND - 1)];
                for (int before = 0; before < many && chance; before++)  // those of earlier chunks
                    chance = !doubles(kept[before], mine, picture.iou);
                x1[thread] = mine.x1;
                y1[thread] = mine.y1;
                x2[thread] = mine.x2;
                y2[thread] = mine.y2;
                kinds[thread] = mine.kind;
            }
            __syncthreads();
            for (int word = 0; word < WORDS; word++) {
                unsigned long long bits = chance ? 0ULL : ~0ULL;
                const int end = thread < 64 * (word + 1) ? thread : 64 * (word + 1);
                for (int other = 64 * word; chance && other < end; other++) {
                    const Box box = {x1[other], y1[other], x2[other], y2[other], 0.0f, kinds[other], 0, 0};
                    if (doubles(box, mine, picture.iou)) bits |= 1ULL << (other & 63);
                }
                surer[thread][word] = bits;
            }
            __syncthreads();
            // One after the other, by all threads alike: a box stays that is no double of one that stays.
            unsigned long long stays[WORDS] = {};
            const int before = many;
            int rank = -1;
#pragma unroll
            for (int word = 0; word < WORDS; word++) {
                for (int bit = 0; bit < 64 && 64 * word + bit < here && !more; bit++) {
                    const int box = 64 * word + bit;
                    unsigned long long doubled = 0;
                    bool none = surer[box][WORDS - 1] == ~0ULL;
#pragma unroll
                    for (int other = 0; other < WORDS; other++) doubled |= surer[box][other] & stays[other];
                    if (none || doubled != 0) continue;
                    if (many == limit) {
                        more = 1;
                        break;
                    }
                    if (thread == box) rank = many;
                    stays[word] |= 1ULL << bit;
                    many++;
                }
            }
            if (rank >= before) kept[rank] = mine;
            __syncthreads();
        }
        more = more && limit != picture.limit;
    }
    for (int rank = thread; rank < many; rank += CHUNK) {
        told[1 + rank] = kept[rank];
        if (copy != 0) copy[1 + rank] = kept[rank];
    }
    if (thread == 0) {
        Box heading = {};
        ((int*)&heading)[0] = total;
        ((int*)&heading)[1] = many;
        ((int*)&heading)[2] = more;
        told[0] = heading;
        if (copy != 0) copy[0] = heading;
    }
}

// The mask coefficients of the boxes told: float32 [n, MOST_KEPT, weights], from the last channels of the output.
template <typename Element>
__device__ void gather(
    const Box* told, const Element* table, int channels, int weights, int places, int step_channel, int step_place,
    float* coefficients) {
    const int image = blockIdx.x;
    told += (long long)image * (1 + MOST_KEPT);
    const int kept = ((const int*)told)[1];
    const Element* at = table + (long long)image * channels * places + (long long)(channels - weights) * step_channel;
    for (int index = threadIdx.x; index < kept * weights; index += blockDim.x) {
        const int box = index / weights, weight = index % weights;
        const long long place = (long long)told[1 + box].place * step_place + (long long)weight * step_channel;
        coefficients[((long long)image * MOST_KEPT + box) * weights + weight] = as_float(at[place]);
    }
}

#define FIT_ARGUMENTS(Element)                                                                                       \
    const Picture *pictures, Element *input, int width, int height, int channels_last, float factor_red,            \
        float factor_green, float factor_blue, float offset_red, float offset_green, float offset_blue, int *counts
#define FIT_VALUES                                                                                                   \
    pictures, input, width, height, channels_last, factor_red, factor_green, factor_blue, offset_red, offset_green, \
        offset_blue, counts
#define COLLECT_ARGUMENTS(Element)                                                                                  \
    const Picture *pictures, const Element *table, int channels, int kinds, int places, int step_channel,           \
        int step_place, const unsigned char *wanted, int room, Box *found, int *counts
#define COLLECT_VALUES \
    pictures, table, channels, kinds, places, step_channel, step_place, wanted, room, found, counts
#define GATHER_ARGUMENTS(Element)                                                                                   \
    const Box *told, const Element *table, int channels, int weights, int places, int step_channel, int step_place, \
        float *coefficients
#define GATHER_VALUES told, table, channels, weights, places, step_channel, step_place, coefficients

extern "C" {
__global__ void fit_f32(FIT_ARGUMENTS(float)) { fit(FIT_VALUES); }
__global__ void fit_f16(FIT_ARGUMENTS(unsigned short)) { fit(FIT_VALUES); }
__global__ void collect_f32(COLLECT_ARGUMENTS(float)) { collect(COLLECT_VALUES); }
__global__ void collect_f16(COLLECT_ARGUMENTS(unsigned short)) { collect(COLLECT_VALUES); }
__global__ void suppress_boxes(
    const Picture* pictures, int room, const Box* found, const int* counts, unsigned long long* keys, Box* told,
    Box* copy) {
    suppress(pictures, room, found, counts, keys, told, copy);
}
__global__ void gather_f32(GATHER_ARGUMENTS(float)) { gather(GATHER_VALUES); }
__global__ void gather_f16(GATHER_ARGUMENTS(unsigned short)) { gather(GATHER_VALUES); }
}
