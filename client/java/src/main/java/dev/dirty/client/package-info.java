/**
 * Calls apps that dirtyd runs. Begin with {@link dev.dirty.client.DirtyClient}.
 */
package dev.dirty.client;
