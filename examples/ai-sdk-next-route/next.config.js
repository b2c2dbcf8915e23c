/** Dawn is a native module, which Next must leave as it is. */
const config = { serverExternalPackages: ['webgpu'] };

// Next reads the default export.
export default config;
