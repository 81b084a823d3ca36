// Where the room is: the page knows it from its own address and from nothing else, so it works under any path of any host.

/** The room's path, with its final slash: `/`, or `/chat/geral/`. */
export const PATH = new URL("../../", import.meta.url).pathname;

/** The path of Socket.IO. */
export const SOCKET_PATH = `${PATH}socket.io/`;

/** The name of something that the browser keeps for this room. Rooms of one host share its storage and its channels. */
export function ofRoom(name) {
  return PATH === "/" ? `papo.${name}` : `papo.${name} ${PATH}`;
}
