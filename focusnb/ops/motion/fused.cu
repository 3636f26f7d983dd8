// Sum moved frames: the twin of the kernel in fused.py. One thread makes one pixel of all sums.
//
// Defined by whoever compiles this: RAW, the type of a count; SUMS, their number; and of the table of taps TAPS, BEFORE
// (taps before the pixel to the left of the place), PHASES (of a pixel) and ZERO, the row of fraction 0.

__device__ int mirrored(long long i, int size) {
    i %= 2LL * size;
    if (i < 0) i += 2LL * size;
    return (int)(i < size ? i : 2LL * size - 1 - i);
}

// Where a polynomial of the place says that a frame is read: whole pixels and the row of the table of taps.
__device__ long long place(const double *shift, double Y, double X, int at, int *row) {
    double moved = shift[0] + X * (shift[1] + X * shift[3] + Y * shift[5]) + Y * (shift[2] + Y * shift[4]);
    double whole = floor(-moved);
    *row = ZERO + (int)((-moved - whole) * PHASES + 0.5);
    return at + (long long)whole - BEFORE;
}

extern "C" __global__ void add_moved(
    const RAW *__restrict__ raw,       // (frames, ny, nx)
    const float *__restrict__ gain,    // (ny, nx), or one value: 1
    int with_gain,
    const double *__restrict__ shifts, // (frames, 2, 6): factors of 1, X, Y, X², Y², XY in dy and in dx
    const float *__restrict__ weights, // (SUMS, frames)
    const float *__restrict__ taps,    // (rows, TAPS)
    float *totals,                     // (SUMS, rows, columns)
    int frames, int ny, int nx, int rows, int columns)
{
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= nx || y >= ny) return;
    double Y = (double)y / ny - 0.5, X = (double)x / nx - 0.5;
    float sums[SUMS];
    for (int r = 0; r < SUMS; ++r) sums[r] = 0.0f;
    for (int t = 0; t < frames; ++t) {
        int row_y, row_x, from_x[TAPS];
        long long top = place(shifts + 12 * t, Y, X, y, &row_y);
        long long left = place(shifts + 12 * t + 6, Y, X, x, &row_x);
        for (int i = 0; i < TAPS; ++i) from_x[i] = mirrored(left + i, nx);
        float value = 0.0f;
        for (int j = 0; j < TAPS; ++j) {
            long long line = (long long)mirrored(top + j, ny) * nx;
            const RAW *counts = raw + (long long)t * ny * nx + line;
            float along = 0.0f;
            for (int i = 0; i < TAPS; ++i) {
                float factor = with_gain ? gain[line + from_x[i]] : 1.0f;
                along += taps[TAPS * row_x + i] * ((float)counts[from_x[i]] * factor);
            }
            value += taps[TAPS * row_y + j] * along;
        }
        for (int r = 0; r < SUMS; ++r) sums[r] += weights[(long long)r * frames + t] * value;
    }
    for (int r = 0; r < SUMS; ++r) totals[((long long)r * rows + y) * columns + x] += sums[r];
}
