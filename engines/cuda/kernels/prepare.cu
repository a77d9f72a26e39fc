// From pictures as decoders left them to the tensor of a network: (N, 3, H, W) uint8 RGB, a whole batch a launch.
//
// Every step is the one that engines.pixels.TensorWriter takes on the CPU, in the same whole numbers, so that both make
// the same bytes (docs/adr/0029-pictures-prepared-on-the-gpu.md). Compiled by NVRTC for a GPU, and as C++ by the tests.

#ifdef __CUDACC__
#define ON_DEVICE __device__ __forceinline__
#define ON_DEVICE_RARELY __device__ __noinline__
#define NOT_UNROLLED _Pragma("unroll 1")
#else
#include <cmath>
#include <cstring>
#define ON_DEVICE inline
#define ON_DEVICE_RARELY inline
#define NOT_UNROLLED
struct Index {
    unsigned x, y, z;
};
static thread_local Index blockIdx, blockDim, threadIdx;
#endif

typedef unsigned char Byte;

constexpr int COLUMNS = 32, ROWS = 8;  // of a block, one thread a pixel: engines.cuda.preparing.BLOCK
constexpr int BITS = 11, ONE = 1 << BITS;  // weights of the linear step
constexpr int COLOUR_BITS = 10;  // entries of the matrix

enum Format { GRAY, I420, NV12, RGB, BGR };

// The parameters of a batch lie at the head of its staging block, one Picture a row of the tensor, and after them the
// planes: engines.cuda.preparing writes both.
struct Plane {
    unsigned long long offset;  // from the start of the block to the region's first sample, a multiple of 32
    int pitch;                  // bytes from row to row, a multiple of 32
    int width, height;          // of the region, when it has been halved
    int halvings;               // 2x2 means before the linear step
};

struct Picture {
    Plane planes[3];
    int inner[4];    // left, top, right, bottom of where it lies in the tensor; empty: a row that nobody asked for
    int tensor[2];   // width, height
    int fill;        // level outside `inner`
    int format;
    int limited;     // gray only: 16..235 is to be spread
    int matrix[12];  // (Y, U, V, 1) to (R, G, B), 3x4, times 1 << COLOUR_BITS; the last column rounds
};

static_assert(sizeof(Plane) == 24 && sizeof(Picture) == 160, "engines.cuda.preparing packs other sizes");

// ---- 2x2 means ----

// The channels of one pixel, or sums over pixels: the first two in the halves of `ab`, the third in `c`.
struct Lanes {
    unsigned ab, c;
};

ON_DEVICE Lanes operator+(Lanes one, Lanes other) { return {one.ab + other.ab, one.c + other.c}; }

// Wide loads; addresses are multiples of their size, because planes and rows start at multiples of 32.
template <typename Wide>
ON_DEVICE unsigned loaded(const Byte* at) {
#ifdef __CUDACC__
    return *reinterpret_cast<const Wide*>(at);
#else
    Wide value;
    std::memcpy(&value, at, sizeof value);
    return value;
#endif
}

ON_DEVICE unsigned apart(unsigned two) { return (two | two << 8) & 0xff00ffu; }  // 0x0000bbaa -> 0x00bb00aa

template <int CHANNELS>
ON_DEVICE Lanes pixel(const Byte* at) {
    if (CHANNELS == 1) return {at[0], 0};
    if (CHANNELS == 2) return {apart(loaded<unsigned short>(at)), 0};
    return {at[0] | unsigned(at[1]) << 16, at[2]};
}

// The sum of two neighbours, the first of which lies in an even column.
template <int CHANNELS>
ON_DEVICE Lanes two_pixels(const Byte* at) {
    if (CHANNELS == 2) {
        const unsigned both = loaded<unsigned>(at);
        return {apart(both & 0xffff) + apart(both >> 16), 0};
    }
    const unsigned first = loaded<unsigned short>(at);
    if (CHANNELS == 1) return {(first & 0xff) + (first >> 8), 0};
    const unsigned second = loaded<unsigned short>(at + 2), third = loaded<unsigned short>(at + 4);
    return {apart(first) + (second >> 8 | (third & 0xff) << 16), (second & 0xff) + (third >> 8)};
}

// A quarter of the sum of four, as OpenCV rounds it: halves up, but of two channels to even.
template <int CHANNELS>
ON_DEVICE Lanes quarter(Lanes sum) {
    if (CHANNELS == 2) return {(sum.ab + 0x10001u + (sum.ab >> 2 & 0x10001u)) >> 2 & 0xff00ffu, 0};
    return {(sum.ab + 0x20002u) >> 2 & 0xff00ffu, (sum.c + 2) >> 2};
}

// One sample of the plane that has been halved LEVELS times: `at` is the first of its 2**LEVELS x 2**LEVELS pixels.
template <int CHANNELS, int LEVELS>
struct Mean {
    static ON_DEVICE Lanes of(const Byte* at, int pitch) {
        typedef Mean<CHANNELS, LEVELS - 1> Finer;
        const int right = CHANNELS << (LEVELS - 1), down = pitch << (LEVELS - 1);
        return quarter<CHANNELS>(Finer::of(at, pitch) + Finer::of(at + right, pitch) + Finer::of(at + down, pitch) +
                                 Finer::of(at + down + right, pitch));
    }
};

template <int CHANNELS>
struct Mean<CHANNELS, 0> {
    static ON_DEVICE Lanes of(const Byte* at, int) { return pixel<CHANNELS>(at); }
};

template <int CHANNELS>
struct Mean<CHANNELS, 1> {
    static ON_DEVICE Lanes of(const Byte* at, int pitch) {
        return quarter<CHANNELS>(two_pixels<CHANNELS>(at) + two_pixels<CHANNELS>(at + pitch));
    }
};

template <>
struct Mean<1, 2> {  // four bytes a load, and two means at a time
    static ON_DEVICE unsigned halves(const Byte* at, int pitch) {
        const unsigned upper = loaded<unsigned>(at), lower = loaded<unsigned>(at + pitch), mask = 0xff00ffu;
        return ((upper & mask) + (upper >> 8 & mask) + (lower & mask) + (lower >> 8 & mask) + 0x20002u) >> 2 & mask;
    }
    static ON_DEVICE Lanes of(const Byte* at, int pitch) {
        const unsigned sum = halves(at, pitch) + halves(at + 2 * pitch, pitch);
        return {((sum & 0xffff) + (sum >> 16) + 2) >> 2, 0};
    }
};

// Any number of levels from two on: the finest means in the order in which the coarser ones need them, each level
// adding up four of the one below.
template <int CHANNELS>
ON_DEVICE_RARELY Lanes deep_mean(const Byte* at, int pitch, int levels) {
    const int above = levels - 2;
    Lanes sums[16] = {};
    NOT_UNROLLED for (unsigned block = 0;; ++block) {
        unsigned x = 0, y = 0;
        NOT_UNROLLED for (int level = 0; level < above; ++level) {
            x |= (block >> 2 * level & 1) << level;
            y |= (block >> (2 * level + 1) & 1) << level;
        }
        Lanes mean = Mean<CHANNELS, 2>::of(at + (size_t(y) * pitch + size_t(x) * CHANNELS) * 4, pitch);
        int level = 0;
        NOT_UNROLLED for (; level < above; ++level) {
            sums[level] = sums[level] + mean;
            if ((block >> 2 * level & 3) != 3) break;
            mean = quarter<CHANNELS>(sums[level]);
            sums[level] = {0, 0};
        }
        if (level == above) return mean;
    }
}

// What is rare is one function for any number of levels: from three on, and from two with several channels.
template <int CHANNELS, int LEVELS>
ON_DEVICE Lanes sample(const Byte* start, const Plane& plane, int x, int y) {
    const int levels = LEVELS < 3 ? LEVELS : plane.halvings;
    const Byte* at = start + (size_t(y) * plane.pitch << levels) + (size_t(x) * CHANNELS << levels);
    if (LEVELS < 2 || (LEVELS == 2 && CHANNELS == 1)) return Mean<CHANNELS, LEVELS>::of(at, plane.pitch);
    return deep_mean<CHANNELS>(at, plane.pitch, levels);
}

// ---- the linear step ----

// Which two samples of an axis a pixel of the tensor lies between, and their weights.
struct Tap {
    int first, second, nearer, farther;
};

// The arithmetic of OpenCV's INTER_LINEAR. It works out the position in double precision and rounds it to float; while
// all numbers fit a float, one division of floats gives the same, which GPUs do much faster.
ON_DEVICE Tap tap(int index, int from, int to, bool column) {
    float position;
    if ((2LL * index + 1) * from < 1 << 24 && to < 1 << 23) {
        position = float((2 * index + 1) * from - to) / float(2 * to);
    } else {
        const double scale = 1.0 / (double(to) / from);
        position = float((index + 0.5) * scale - 0.5);
    }
    const int whole = int(floorf(position));
    float part = position - float(whole);
    int first = whole < 0 ? 0 : whole > from - 1 ? from - 1 : whole;
    int second = whole + 1 < 0 ? 0 : whole + 1 > from - 1 ? from - 1 : whole + 1;
    // Only of columns: OpenCV leaves the weights of rows as they are, which rounds otherwise.
    if (column && (whole < 0 || whole >= from - 1)) {
        part = 0;
        second = first;
    }
    return {first, second, int(rintf((1 - part) * ONE)), int(rintf(part * ONE))};
}

// Those of the pixels of a block: of the first plane and of the other two, which are alike.
struct BlockTaps {
    Tap columns[2][COLUMNS], rows[2][ROWS];
};

// The four samples around a pixel.
struct Corners {
    Lanes left_above, right_above, left, right;
};

template <int CHANNELS, int LEVELS>
ON_DEVICE Corners corners(const Byte* start, const Plane& plane, Tap column, Tap row) {
    return {sample<CHANNELS, LEVELS>(start, plane, column.first, row.first),
            sample<CHANNELS, LEVELS>(start, plane, column.second, row.first),
            sample<CHANNELS, LEVELS>(start, plane, column.first, row.second),
            sample<CHANNELS, LEVELS>(start, plane, column.second, row.second)};
}

ON_DEVICE int between(unsigned left_above, unsigned right_above, unsigned left, unsigned right, Tap column, Tap row) {
    const int above = (int(left_above) * column.nearer + int(right_above) * column.farther) >> 4;
    const int below = (int(left) * column.nearer + int(right) * column.farther) >> 4;
    return ((above * row.nearer >> 16) + (below * row.farther >> 16) + 2) >> 2;
}

struct Pixel {
    int a, b, c;
};

template <int CHANNELS>
ON_DEVICE Pixel resized(const Byte* staging, const Plane& plane, Tap column, Tap row) {
    const Byte* start = staging + plane.offset;
    const Corners at = plane.halvings == 0   ? corners<CHANNELS, 0>(start, plane, column, row)
                       : plane.halvings == 1 ? corners<CHANNELS, 1>(start, plane, column, row)
                       : plane.halvings == 2 ? corners<CHANNELS, 2>(start, plane, column, row)
                                             : corners<CHANNELS, 3>(start, plane, column, row);
    const Lanes one = at.left_above, two = at.right_above, three = at.left, four = at.right;
    Pixel found = {between(one.ab & 0xffff, two.ab & 0xffff, three.ab & 0xffff, four.ab & 0xffff, column, row), 0, 0};
    if (CHANNELS > 1) found.b = between(one.ab >> 16, two.ab >> 16, three.ab >> 16, four.ab >> 16, column, row);
    if (CHANNELS > 2) found.c = between(one.c, two.c, three.c, four.c, column, row);
    return found;
}

// ---- colour ----

ON_DEVICE int level(int value) { return value < 0 ? 0 : value > 255 ? 255 : value; }

// 16..235 to 0..255, rounded: 255 / 219 = 85 / 73.
ON_DEVICE int spread(int luma) { return luma < 16 ? 0 : level((2 * 85 * (luma - 16) + 73) / (2 * 73)); }

// The arithmetic of cv2.transform for bytes, added up plane by plane.
struct Sums {
    int red, green, blue;
    ON_DEVICE void add(const int* matrix, int channel, int value) {
        red += matrix[channel] * value;
        green += matrix[4 + channel] * value;
        blue += matrix[8 + channel] * value;
    }
};

ON_DEVICE Pixel coloured(const Byte* staging, const Picture& picture, const BlockTaps& taps) {
    const unsigned x = threadIdx.x, y = threadIdx.y;
    if (picture.format == RGB || picture.format == BGR) {
        const Pixel found = resized<3>(staging, picture.planes[0], taps.columns[0][x], taps.rows[0][y]);
        return picture.format == RGB ? found : Pixel{found.c, found.b, found.a};
    }
    Sums sums = {};
    sums.add(picture.matrix, 3, 1);
    int value = 0;
    // Not unrolled: three times the code would be no faster.
    NOT_UNROLLED for (int plane = 0; plane < (picture.format == I420 ? 3 : 1); ++plane) {
        const int which = plane > 0;
        value = resized<1>(staging, picture.planes[plane], taps.columns[which][x], taps.rows[which][y]).a;
        sums.add(picture.matrix, plane, value);
    }
    if (picture.format == GRAY) {
        const int gray = picture.limited ? spread(value) : value;
        return {gray, gray, gray};
    }
    if (picture.format == NV12) {
        const Pixel chroma = resized<2>(staging, picture.planes[1], taps.columns[1][x], taps.rows[1][y]);
        sums.add(picture.matrix, 1, chroma.a);
        sums.add(picture.matrix, 2, chroma.b);
    }
    return {level(sums.red >> COLOUR_BITS), level(sums.green >> COLOUR_BITS), level(sums.blue >> COLOUR_BITS)};
}

// ---- the kernel: what its threads do before and after they have met ----

ON_DEVICE const Picture& picture_of_block(const Byte* staging) {
    return reinterpret_cast<const Picture*>(staging)[blockIdx.z];
}

// The first 80 threads work out a tap each.
ON_DEVICE void find_taps(const Byte* staging, BlockTaps& taps) {
    const Picture& picture = picture_of_block(staging);
    const int thread = threadIdx.y * COLUMNS + threadIdx.x;
    const int width = picture.inner[2] - picture.inner[0], height = picture.inner[3] - picture.inner[1];
    if (thread < 2 * COLUMNS) {
        const int plane = thread / COLUMNS, column = thread % COLUMNS;
        const int x = int(blockIdx.x * COLUMNS) + column - picture.inner[0];
        if (x >= 0 && x < width && picture.planes[plane].width > 0)
            taps.columns[plane][column] = tap(x, picture.planes[plane].width, width, true);
    } else if (thread < 2 * COLUMNS + 2 * ROWS) {
        const int plane = (thread - 2 * COLUMNS) / ROWS, row = thread % ROWS;
        const int y = int(blockIdx.y * ROWS) + row - picture.inner[1];
        if (y >= 0 && y < height && picture.planes[plane].height > 0)
            taps.rows[plane][row] = tap(y, picture.planes[plane].height, height, false);
    }
}

ON_DEVICE void write_pixel(const Byte* staging, const BlockTaps& taps, Byte* tensors) {
    const Picture& picture = picture_of_block(staging);
    const int x = blockIdx.x * COLUMNS + threadIdx.x, y = blockIdx.y * ROWS + threadIdx.y;
    const int width = picture.tensor[0], height = picture.tensor[1];
    if (x >= width || y >= height) return;
    Pixel rgb = {picture.fill, picture.fill, picture.fill};
    if (x >= picture.inner[0] && y >= picture.inner[1] && x < picture.inner[2] && y < picture.inner[3])
        rgb = coloured(staging, picture, taps);
    const size_t plane = size_t(width) * height;
    Byte* out = tensors + 3 * plane * blockIdx.z + size_t(y) * width + x;
    out[0] = Byte(rgb.a);
    out[plane] = Byte(rgb.b);
    out[2 * plane] = Byte(rgb.c);
}

#ifdef __CUDACC__
// Grid: tensor width / 32, tensor height / 8, pictures; blocks of 32 x 8.
extern "C" __global__ void __launch_bounds__(COLUMNS* ROWS) prepare(const Byte* staging, Byte* tensors) {
    __shared__ BlockTaps taps;
    find_taps(staging, taps);
    __syncthreads();
    write_pixel(staging, taps, tensors);
}
#endif
