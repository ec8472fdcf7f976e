/** The device that the committed model was trained on, as scripts/gyro/sensor.py draws it: errors of its part, matrices of its own. */

export const SPECIMEN = {
  "part": "ADIS16448",
  "gyro": {
    "white": 0.00972, "flicker": 0.006065930388219545, "drift": 0.00111, "turn_on": 0.5, "resolution": 0.04, "limit": 1000.0,
    "matrix": [
      [1.00051484, -0.00250654983, 0.00860067635],
      [0.00171634254, 0.995097364, -0.0116736436],
      [0.00847616134, 8.50121833e-05, 0.995912608]
    ]
  },
  "accelerometer": {
    "white": 0.002, "flicker": 0.0025, "drift": 0.003, "turn_on": 0.1, "resolution": 0.00817, "limit": 176.5,
    "matrix": [
      [1.00022021, -0.0044501513, 0.000790229275],
      [-0.00134537523, 1.00064533, 0.00105870621],
      [0.00479538152, 0.00342840424, 1.00366412]
    ]
  }
};
